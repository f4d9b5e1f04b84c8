"""The compute that skipped runs saved, an estimate with what it rests on."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from pydantic import Field

from ct.contracts import TriggerKind, Value
from ct.triggers.records import JUDGED, RunStatus, SkipCause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.triggers.records import RunRecord


class Saved(Value):
    """What the runs that were skipped for one reason saved."""

    cause: SkipCause
    runs: int
    seconds: float | None = Field(description="None while no run of the pipeline was whole.")


class Savings(Value):
    """What skipped runs of a pipeline saved."""

    pipeline: str
    saved: tuple[Saved, ...]
    seconds: float | None
    typical_s: float | None = Field(description="Median seconds of a whole run, from claim to end.")
    rests_on: int = Field(description="Whole runs that the median is of.")
    not_counted: int = Field(
        description="Skipped runs that nothing is counted for: an announcement that came twice would not have trained."
    )


def savings(pipeline: str, runs: Sequence[RunRecord]) -> Savings:
    """Sum what skipped runs saved: for each, the median of whole runs minus the seconds it took itself, never below 0.

    Args:
        pipeline: whose runs these are.
        runs: all runs of the pipeline.
    """
    whole = [seconds for run in runs if run.status in JUDGED and (seconds := _seconds(run)) is not None]
    typical = median(whole) if whole else None
    skipped = [run for run in runs if run.status is RunStatus.SKIPPED and run.cause is not None]
    counted = [run for run in skipped if not _came_twice(run)]
    saved = []
    for cause in SkipCause:
        of_cause = [run for run in counted if run.cause is cause]
        if of_cause:
            seconds = None if typical is None else sum(max(0.0, typical - (_seconds(run) or 0.0)) for run in of_cause)
            saved.append(Saved(cause=cause, runs=len(of_cause), seconds=seconds))
    return Savings(
        pipeline=pipeline,
        saved=tuple(saved),
        seconds=None if typical is None else sum(entry.seconds or 0.0 for entry in saved),
        typical_s=typical,
        rests_on=len(whole),
        not_counted=len(skipped) - len(counted),
    )


def _came_twice(run: RunRecord) -> bool:
    return run.trigger is TriggerKind.DATA and run.cause is SkipCause.NO_NEW_DATA


def _seconds(run: RunRecord) -> float | None:
    return None if run.finished_at is None else (run.finished_at - run.started_at).total_seconds()
