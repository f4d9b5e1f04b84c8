"""When waiting spans become a run: a pure function, asked by the watcher before it announces and by a run before it claims."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ct.config import TriggerConfig

BACKOFF = timedelta(minutes=1)
"""After a failed run its spans are announced again, four times later with each failure in a row."""
TRIES = 4
"""Failures in a row after which spans wait for a landing, the schedule or a person: broken code must not run for ever."""


@dataclass(frozen=True)
class WaitingSpan:
    """A span that waits for a run."""

    seen_at: datetime
    rows: int | None
    """None when nobody knows; then it counts as enough, so that it is not kept for ever."""
    had_run: bool
    """Whether a run had it and ended without judging it."""


@dataclass(frozen=True)
class LastRun:
    """The newest run that claimed something."""

    run_id: str
    started_at: datetime
    finished_at: datetime | None
    failures: int
    """Runs that failed in a row, this one included; 0 when it did not fail."""


class WaitingFor(Enum):
    """What must happen before waiting spans become a run."""

    NOTHING = "nothing waits"
    ROWS = "rows"
    COOLDOWN = "cooldown"
    RUN = "run"
    BACKOFF = "backoff"
    SOMEBODY = "somebody"


@dataclass(frozen=True)
class Due:
    """A run may take them now."""


@dataclass(frozen=True)
class Wait:
    """Not yet."""

    what: WaitingFor
    why: str
    until: datetime | None
    """None when no clock ends it."""
    run_id: str | None = None
    """The run that goes on, where that is what it waits for."""


def decide(waiting: Sequence[WaitingSpan], last: LastRun | None, now: datetime, settings: TriggerConfig) -> Due | Wait:
    """Whether the waiting spans are due, or until when they wait and why.

    Rows and cooldown hold them back, both no longer than `max_wait_s` after the oldest was seen. A run that goes on is
    waited for in any case.
    """
    if not waiting:
        return Wait(WaitingFor.NOTHING, "no span is waiting", None)
    if last is not None and last.finished_at is not None and all(span.had_run for span in waiting):
        held_back = _after_failure(last, last.finished_at, now)
        if held_back is not None:
            return held_back
    at_last = None
    if settings.max_wait_s is not None:
        at_last = min(span.seen_at for span in waiting) + timedelta(seconds=settings.max_wait_s)
    if at_last is None or now < at_last:
        held_back = _too_few_rows(waiting, settings, at_last) or _cooling_down(last, now, settings, at_last)
        if held_back is not None:
            return held_back
    if last is not None and last.finished_at is None:
        return Wait(WaitingFor.RUN, f"run {last.run_id} goes on; the next run takes it", None, last.run_id)
    return Due()


def _after_failure(last: LastRun, ended: datetime, now: datetime) -> Wait | None:
    if last.failures == 0:
        why = f"run {last.run_id} ended before training and nothing has landed since; `ct trigger` tries again"
        return Wait(WaitingFor.SOMEBODY, why, None)
    if last.failures >= TRIES:
        why = f"{last.failures} runs in a row failed, the last was {last.run_id}; `ct trigger` tries again"
        return Wait(WaitingFor.SOMEBODY, why, None)
    until = ended + BACKOFF * 4 ** (last.failures - 1)
    if now >= until:
        return None
    return Wait(WaitingFor.BACKOFF, f"run {last.run_id} failed; tried again at {_clock(until)}", until)


def _too_few_rows(waiting: Sequence[WaitingSpan], settings: TriggerConfig, at_last: datetime | None) -> Wait | None:
    counts = [span.rows for span in waiting]
    known = sum(rows for rows in counts if rows is not None)
    if None in counts or known >= settings.min_new_rows:
        return None
    latest = f", or {_clock(at_last)}" if at_last else ""
    return Wait(WaitingFor.ROWS, f"{known:,} of {settings.min_new_rows:,} new rows are there{latest}", at_last)


def _cooling_down(
    last: LastRun | None, now: datetime, settings: TriggerConfig, at_last: datetime | None
) -> Wait | None:
    if last is None:
        return None
    over = (last.finished_at or last.started_at) + timedelta(seconds=settings.cooldown_s)
    if now >= over:
        return None
    until = over if at_last is None else min(over, at_last)
    return Wait(WaitingFor.COOLDOWN, f"cooldown after run {last.run_id} until {_clock(until)}", until)


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
