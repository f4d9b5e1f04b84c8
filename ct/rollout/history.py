"""Questions to a model's history: what served when, since when, and what before. Pure functions; the oldest entry is first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct.contracts import Change

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ct.contracts import HistoryEntry

BESIDE = (Change.CANARY, Change.SHADOW, Change.END)
"""Changes that leave the champion as it is."""


def served_at(history: Sequence[HistoryEntry], moment: datetime) -> HistoryEntry | None:
    """The change that was in force at a moment: its version, canary and shadow are what served then.

    A change is in force from its own time on. When the clock was set back between two changes, the later change counts.

    Args:
        history: every change, oldest first.
        moment: with a zone.

    Returns:
        The entry; None before the first rollout.
    """
    return next((entry for entry in reversed(history) if entry.at <= moment), None)


def serving_since(history: Sequence[HistoryEntry]) -> HistoryEntry | None:
    """The change with which the newest entry's version began to serve; canaries, shadows and reverts do not interrupt it.

    Returns:
        The entry; None when the history is empty.
    """
    began = None
    for entry in reversed(history):
        if entry.version != history[-1].version:
            break
        began = entry
    return began


def canary_since(history: Sequence[HistoryEntry]) -> HistoryEntry | None:
    """The change with which the newest entry's canary began; a change of its share does not interrupt it.

    Returns:
        The entry; None when no canary is going.
    """
    going = _canary_version(history[-1]) if history else None
    began = None
    for entry in reversed(history):
        if going is None or _canary_version(entry) != going:
            break
        began = entry
    return began


def forced_of(history: Sequence[HistoryEntry], version: int) -> tuple[HistoryEntry, ...]:
    """Each change with which a person let a version answer against the gate or its proof, oldest first."""
    return tuple(entry for entry in history if entry.forced and entry.lets_answer == version)


def served_stack(history: Sequence[HistoryEntry]) -> list[int]:
    """The versions that a chain of rollbacks would go through, the current one last. A canary or shadow has not served."""
    stack: list[int] = []
    for entry in history:
        if entry.change in BESIDE:
            continue
        if entry.change is not Change.ROLLOUT and entry.version in stack:
            del stack[stack.index(entry.version) + 1 :]
        else:
            stack = [version for version in stack if version != entry.version] + [entry.version]
    return stack


def _canary_version(entry: HistoryEntry) -> int | None:
    return entry.canary.version if entry.canary else None
