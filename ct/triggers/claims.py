"""Which spans a run gets, and what becomes of them. Every function works inside a transaction of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ct.contracts import Span, TriggerKind
from ct.triggers import schema
from ct.triggers.coalescing import LastRun, Wait, WaitingFor, WaitingSpan, decide
from ct.triggers.records import BEFORE_CLAIM, Claim, RunRecord, RunStatus, SkipCause, SpanRecord, SpanState
from ct.triggers.rows import (
    RunRow,
    current,
    newest_runs,
    revisions,
    run_record,
    run_row,
    run_row_of,
    span_record,
    update_span,
    usable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ct.config import TriggerConfig

CAUSES = {WaitingFor.COOLDOWN: SkipCause.COOLDOWN, WaitingFor.ROWS: SkipCause.TOO_FEW_ROWS}
_NOTHING = {True: "no span is waiting: nothing has landed since the last run", False: "no span has landed yet"}
"""Whether there is a window -> why there is nothing to do."""
_NO_NEW_DATA = SkipCause.NO_NEW_DATA


@dataclass(frozen=True)
class Ask:
    """What a run asks the ledger for."""

    pipeline: str
    run_id: str
    """Used when this Airflow run has not claimed before."""
    trigger: TriggerKind
    airflow_dag_id: str
    airflow_run_id: str
    asked_at: datetime
    max_spans: int | None
    force: bool = False
    """Run on the window as it is when no span waits."""
    refused_too: bool = False
    """Try refused spans again, after the schema or the pipeline has changed."""
    seen_until: datetime | None = None
    """Leave spans alone that were seen later: a backfill sees what its date saw."""
    one_by_one: bool = False
    """Take the oldest of the waiting spans alone; the others wait for runs of their own."""
    coalescing: TriggerConfig | None = None
    """Claim only when waiting spans are due by these settings. None: whatever waits."""


def claim(connection: sa.Connection, ask: Ask, now: datetime) -> Claim | None:
    """See `Ledger.claim`."""
    runs = schema.runs
    mine = (runs.c.pipeline == ask.pipeline) & (runs.c.airflow_run_id == ask.airflow_run_id)
    before = connection.execute(sa.select(runs).where(mine).with_for_update()).mappings().first()
    if before is not None and before["status"] != RunStatus.SKIPPED.value:  # a skipped one has trained on nothing
        return _claim_again(connection, run_row_of(before))
    window, claimed, passed_over = _choose(connection, ask)
    held_back = _held_back(connection, ask, claimed, now)
    run_id = ask.run_id if before is None else str(before["run_id"])
    enough = held_back is None and bool(window) and (bool(claimed) or ask.force)
    taken = [record.span for record in claimed] if enough else []
    if held_back is None:
        for span in passed_over:
            reason = f"older than the window of {ask.max_spans} spans reaches"
            connection.execute(update_span(*_key(span)).values(state=SpanState.SUPERSEDED.value, reason=reason))
    message, cause = (held_back.why, CAUSES[held_back.what]) if held_back else (_NOTHING[bool(window)], _NO_NEW_DATA)
    values = {
        "run_id": run_id,
        "pipeline": ask.pipeline,
        "trigger": ask.trigger.value,
        "status": (RunStatus.RUNNING if enough else RunStatus.SKIPPED).value,
        "window": [[span.name, span.revision] for span in window] if enough else [],
        "claimed": [[span.name, span.revision] for span in taken],
        "requested_at": max((span.seen_at for span in taken), default=ask.asked_at),
        "started_at": now,
        "finished_at": None if enough else now,
        "message": "" if enough else message,
        "cause": None if enough else cause.value,
        "airflow_dag_id": ask.airflow_dag_id,
        "airflow_run_id": ask.airflow_run_id,
    }
    if before is None:
        connection.execute(sa.insert(runs).values(**values))
    else:
        connection.execute(sa.update(runs).where(mine).values(**values))
    for span in taken:
        connection.execute(update_span(*_key(span)).values(state=SpanState.CLAIMED.value, run_id=run_id, reason=""))
    return _claim(connection, run_row(connection, run_id), again=False) if enough else None


def take_again(connection: sa.Connection, run: RunRow) -> None:
    """Let an ended run go on with the spans that nobody took since."""
    for name, revision in run.claimed:
        theirs = update_span(run.pipeline, name, revision).where(
            schema.spans.c.state == SpanState.WAITING.value,
            sa.or_(schema.spans.c.run_id == run.run_id, schema.spans.c.run_id.is_(None)),
        )
        connection.execute(theirs.values(state=SpanState.CLAIMED.value, run_id=run.run_id, reason=""))
    going_on = {"status": RunStatus.RUNNING.value, "finished_at": None, "message": "", "cause": None}
    connection.execute(sa.update(schema.runs).where(schema.runs.c.run_id == run.run_id).values(**going_on))


def settle(connection: sa.Connection, run: RunRow, *, judged: bool, message: str) -> None:
    """Move the spans of a run that ended to where they belong; see `Ledger.finish_run`."""
    held = [record for record in revisions(connection, run.pipeline, run.claimed) if record.run_id == run.run_id]
    another_was_refused = any(
        record.state is SpanState.REFUSED and record.run_id == run.run_id
        for record in revisions(connection, run.pipeline, run.window)
    )
    for record in held:
        if record.state not in (SpanState.CLAIMED, SpanState.WAITING):
            continue
        span = record.span
        newer = _newest_revision(connection, run.pipeline, span.name)
        if newer > span.revision:
            values: dict[str, Any] = {"state": SpanState.SUPERSEDED.value, "reason": f"revision {newer} landed"}
        elif judged:
            values = {"state": SpanState.TRAINED.value, "reason": ""}
        elif another_was_refused:
            values = {"state": SpanState.WAITING.value, "reason": "", "run_id": None}
        else:
            values = {"state": SpanState.WAITING.value, "reason": message}
        connection.execute(update_span(*_key(span)).values(**values))


def refuse(connection: sa.Connection, run: RunRow, name: str, reason: str) -> None:
    """Refuse a span of a run's window. It is in no later window."""
    revisions = dict(run.window)
    if name in revisions:
        refusing = update_span(run.pipeline, name, revisions[name])
        connection.execute(refusing.values(state=SpanState.REFUSED.value, reason=reason, run_id=run.run_id))


def last_run(runs: Sequence[RunRecord]) -> LastRun | None:
    """The newest of these runs that claimed something, a backfill not counted.

    Args:
        runs: newest first.
    """
    counted = [run for run in runs if run.cause not in BEFORE_CLAIM and run.trigger is not TriggerKind.BACKFILL]
    if not counted:
        return None
    failures = sum(1 for _ in takewhile(lambda run: run.status is RunStatus.FAILED, counted))
    return LastRun(counted[0].run_id, counted[0].started_at, counted[0].finished_at, failures)


def _held_back(connection: sa.Connection, ask: Ask, claimed: Sequence[SpanRecord], now: datetime) -> Wait | None:
    """Why the spans must wait; a run that goes on beside this one and earlier failures hold nothing back here."""
    if ask.coalescing is None or ask.force or not claimed:
        return None
    waiting = [WaitingSpan(record.span.seen_at, record.rows, had_run=False) for record in claimed]
    runs = [run_record(row) for row in connection.execute(newest_runs(ask.pipeline)).mappings()]
    last = last_run([run for run in runs if run.status is not RunStatus.RUNNING])
    found = decide(waiting, last, now, ask.coalescing)
    return found if isinstance(found, Wait) else None


def _choose(connection: sa.Connection, ask: Ask) -> tuple[list[Span], list[SpanRecord], list[Span]]:
    """The window, the spans of it that are claimed now, and waiting spans that are too old for the window."""
    query = current(ask.pipeline).with_for_update()
    records = [span_record(row) for row in connection.execute(query).mappings()]
    if ask.seen_until is not None:
        records = [record for record in records if record.span.seen_at <= ask.seen_until]
    claimable = {SpanState.WAITING, *([SpanState.REFUSED] if ask.refused_too else [])}
    able = [record for record in records if usable(record) and record.state in {SpanState.TRAINED, *claimable}]
    if ask.one_by_one:
        oldest = next((record.span.name for record in able if record.state in claimable), None)
        able = [record for record in able if record.state is SpanState.TRAINED or record.span.name == oldest]
    window = able if ask.max_spans is None else able[-ask.max_spans :]
    left_out = able[: len(able) - len(window)]
    return (
        [record.span for record in window],
        [record for record in window if record.state in claimable],
        [record.span for record in left_out if record.state is SpanState.WAITING],
    )


def _claim_again(connection: sa.Connection, run: RunRow) -> Claim:
    if run.status != RunStatus.RUNNING.value:
        take_again(connection, run)
    return _claim(connection, run, again=True)


def _claim(connection: sa.Connection, run: RunRow, *, again: bool) -> Claim:
    return Claim(
        run_id=run.run_id,
        trigger=run.trigger,
        requested_at=run.requested_at,
        window=tuple(record.span for record in revisions(connection, run.pipeline, run.window)),
        new_spans=tuple(name for name, _ in run.claimed),
        again=again,
    )


def _newest_revision(connection: sa.Connection, pipeline: str, name: str) -> int:
    spans = schema.spans
    query = sa.select(sa.func.max(spans.c.revision)).where(spans.c.pipeline == pipeline, spans.c.name == name)
    return int(connection.execute(query).scalar_one())


def _key(span: Span) -> tuple[str, str, int]:
    return span.pipeline, span.name, span.revision
