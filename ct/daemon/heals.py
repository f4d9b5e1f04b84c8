"""What the sentinel did, on record: `run/heals.jsonl`, one Heal a line, from `ct up` to `ct up`."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  pydantic needs the class at run time
from typing import TYPE_CHECKING

from ct.contracts import Value

if TYPE_CHECKING:
    from pathlib import Path

    from ct.home import Home


class Heal(Value):
    """One death of supervisord, and what became of it."""

    at: datetime
    message: str
    gave_up: bool = False


def record(home: Home, heal: Heal) -> None:
    """Append one."""
    with _path(home).open("a", encoding="utf-8") as file:
        file.write(heal.model_dump_json() + "\n")


def recorded(home: Home) -> tuple[Heal, ...]:
    """All since the last `ct up`, oldest first."""
    try:
        lines = _path(home).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    return tuple(Heal.model_validate_json(line) for line in lines)


def forget(home: Home) -> None:
    """Begin anew."""
    _path(home).unlink(missing_ok=True)


def _path(home: Home) -> Path:
    return home.run / "heals.jsonl"
