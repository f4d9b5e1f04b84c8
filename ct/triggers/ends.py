"""What became of each event: a pure function of the event, its span, and the runs. Every event has exactly one end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct.triggers.coalescing import Wait
from ct.triggers.records import JUDGED, LANDINGS, EndKind, EventEnd, EventOutcome, EventRecord, RunStatus, SpanState
from ct.triggers.rows import usable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct.triggers.coalescing import Due
    from ct.triggers.records import RunRecord, SpanRecord

NO_RUN_YET = "the next run, which is due"


@dataclass(frozen=True)
class Standing:
    """What there is to know of a pipeline when ends are told."""

    spans: Mapping[tuple[str, int], SpanRecord]
    """Every revision of every span."""
    runs: Mapping[str, RunRecord]
    newest: Mapping[str, EventRecord]
    """Address -> the newest event of it."""
    decision: Due | Wait
    """Of the waiting spans."""


def end_of(event: EventRecord, standing: Standing) -> EventEnd:
    """What became of an event.

    Raises:
        KeyError: the ledger lacks the span or the run that it refers to, which its transactions rule out.
    """
    if event.outcome is EventOutcome.DUPLICATE:
        return EventEnd(event=event, end=EndKind.DUPLICATE, why=event.message)
    if event.outcome is EventOutcome.LATE:
        return EventEnd(event=event, end=EndKind.REJECTED, why=event.message)
    if event.outcome in LANDINGS:
        return _of_landing(event, standing)
    newest = standing.newest[event.uri]
    if event.outcome is EventOutcome.INCOMPLETE:
        if newest == event:
            return EventEnd(event=event, end=EndKind.INCOMPLETE, why=event.message)
        return EventEnd(event=event, end=EndKind.SUPERSEDED, why=f"{newest.outcome.value} since: {newest.message}")
    return EventEnd(event=event, end=EndKind.NOTED, why=event.message)


def _of_landing(event: EventRecord, standing: Standing) -> EventEnd:
    record = standing.spans[event.span or event.name, event.revision or 0]
    run = None if record.run_id is None else standing.runs[record.run_id]
    state = record.state
    if state is SpanState.TRAINED or (state is SpanState.SUPERSEDED and run is not None and run.status in JUDGED):
        run = _required(run)
        since = f"; {record.reason} since" if state is SpanState.SUPERSEDED else ""
        why = f"{run.run_id}, {_verdict(run)}{since}"
        return EventEnd(event=event, end=EndKind.CONSUMED, why=why, run_id=run.run_id, judged=True)
    if state is SpanState.CLAIMED:
        run = _required(run)
        why = f"{run.run_id}, which goes on"
        return EventEnd(event=event, end=EndKind.CONSUMED, why=why, run_id=run.run_id, judged=False)
    if state is SpanState.SUPERSEDED:
        return EventEnd(event=event, end=EndKind.SUPERSEDED, why=record.reason)
    if state is SpanState.REFUSED:
        return EventEnd(event=event, end=EndKind.REJECTED, why=record.reason, run_id=record.run_id)
    if not usable(record):
        why = "deleted from the source before a run had it (source.deleted: forget)"
        return EventEnd(event=event, end=EndKind.REJECTED, why=why)
    why = standing.decision.why if isinstance(standing.decision, Wait) else NO_RUN_YET
    failed = f"; its last run: {record.reason}" if record.reason else ""
    return EventEnd(event=event, end=EndKind.WAITING, why=f"{why}{failed}", run_id=record.run_id)


def _required(run: RunRecord | None) -> RunRecord:
    if run is None:
        raise KeyError("a span that a run had names no run")
    return run


def _verdict(run: RunRecord) -> str:
    if run.status is RunStatus.APPROVED:
        return f"judged: approved{f' as version {run.version}' if run.version else ''}"
    return f"judged: {run.status.value}" if run.status in JUDGED else run.status.value
