"""How a component tells the operator what it did: a sentence and a few small values, kept for the node that runs now."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Facts:
    """What the running node has reported so far."""

    message: str = ""
    values: dict[str, Any] = field(default_factory=dict)


_facts: ContextVar[Facts] = ContextVar("facts")


@contextmanager
def collected() -> Iterator[Facts]:
    """Collect what components report inside the block."""
    facts = Facts()
    token = _facts.set(facts)
    try:
        yield facts
    finally:
        _facts.reset(token)


def report(message: str, **values: Any) -> None:
    """Say what the node did. `values` must be JSON values; they reach Airflow as the task's XCom."""
    facts = _facts.get()
    facts.message = message
    facts.values.update(values)
