"""Which spans a run gets, and what becomes of them. Every function works inside a transaction of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ct.contracts import Span, TriggerKind
from ct.errors import CTError
from ct.triggers import schema
from ct.triggers.records import Claim, RunRecord, RunStatus, SpanRecord, SpanState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

ENDED_WITHOUT_SPANS = "no span is waiting: nothing has landed since the last run"
NOTHING_LANDED = "no span has landed yet"


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


@dataclass(frozen=True)
class RunRow:
    """What the functions here need of a run."""

    run_id: str
    pipeline: str
    status: str
    trigger: TriggerKind
    requested_at: datetime
    window: tuple[tuple[str, int], ...]
    claimed: tuple[tuple[str, int], ...]


def claim(connection: sa.Connection, ask: Ask, now: datetime) -> Claim | None:
    """See `Ledger.claim`."""
    runs = schema.runs
    mine = (runs.c.pipeline == ask.pipeline) & (runs.c.airflow_run_id == ask.airflow_run_id)
    before = connection.execute(sa.select(runs).where(mine).with_for_update()).mappings().first()
    if before is not None and before["status"] != RunStatus.SKIPPED.value:
        return _claim_again(connection, _run(before))
    window, claimed, passed_over = _choose(connection, ask)
    for span in passed_over:
        reason = f"older than the window of {ask.max_spans} spans reaches"
        connection.execute(update_span(*_key(span)).values(state=SpanState.SUPERSEDED.value, reason=reason))
    run_id = ask.run_id if before is None else str(before["run_id"])
    enough = bool(window) and (bool(claimed) or ask.force)
    values = {
        "run_id": run_id,
        "pipeline": ask.pipeline,
        "trigger": ask.trigger.value,
        "status": (RunStatus.RUNNING if enough else RunStatus.SKIPPED).value,
        "window": [[span.name, span.revision] for span in window] if enough else [],
        "claimed": [[span.name, span.revision] for span in claimed],
        "requested_at": max((span.seen_at for span in claimed), default=ask.asked_at),
        "started_at": now,
        "finished_at": None if enough else now,
        "message": "" if enough else (ENDED_WITHOUT_SPANS if window else NOTHING_LANDED),
        "airflow_dag_id": ask.airflow_dag_id,
        "airflow_run_id": ask.airflow_run_id,
    }
    if before is None:
        connection.execute(sa.insert(runs).values(**values))
    else:
        connection.execute(sa.update(runs).where(mine).values(**values))
    for span in claimed:
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
    going_on = {"status": RunStatus.RUNNING.value, "finished_at": None, "message": ""}
    connection.execute(sa.update(schema.runs).where(schema.runs.c.run_id == run.run_id).values(**going_on))


def settle(connection: sa.Connection, run: RunRow, *, judged: bool, message: str) -> None:
    """Move the spans of a run that ended to where they belong; see `Ledger.finish_run`."""
    held = [record for record in _records(connection, run.pipeline, run.claimed) if record.run_id == run.run_id]
    another_was_refused = any(
        record.state is SpanState.REFUSED and record.run_id == run.run_id
        for record in _records(connection, run.pipeline, run.window)
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


def update_span(pipeline: str, name: str, revision: int) -> sa.Update:
    """An UPDATE of one revision of one span."""
    spans = schema.spans
    return sa.update(spans).where(spans.c.pipeline == pipeline, spans.c.name == name, spans.c.revision == revision)


def current(pipeline: str) -> sa.Select[Any]:
    """The newest revision of every span, ordered by name."""
    spans = schema.spans
    newer = spans.alias()
    superseded = sa.exists().where(
        newer.c.pipeline == spans.c.pipeline, newer.c.name == spans.c.name, newer.c.revision > spans.c.revision
    )
    return sa.select(spans).where(spans.c.pipeline == pipeline, ~superseded).order_by(spans.c.name)


def run_row(connection: sa.Connection, run_id: str) -> RunRow:
    """A run's row.

    Raises:
        CTError: there is none.
    """
    query = sa.select(schema.runs).where(schema.runs.c.run_id == run_id).with_for_update()
    row = connection.execute(query).mappings().first()
    if row is None:
        raise CTError(f"The ledger knows no run {run_id}. Nothing was changed. See `ct runs`.", run_id=run_id)
    return _run(row)


def span_record(row: Any) -> SpanRecord:
    """A row of `spans` as a value."""
    values = dict(row)
    span = Span(**{name: values[name] for name in Span.model_fields})
    return SpanRecord(span=span, state=values["state"], reason=values["reason"], run_id=values["run_id"])


def run_record(row: Any) -> RunRecord:
    """A row of `runs` as a value."""
    values = dict(row)
    names = {"window": tuple(n for n, _ in values["window"]), "spans": tuple(n for n, _ in values.pop("claimed"))}
    return RunRecord(**{**values, **names})


def _choose(connection: sa.Connection, ask: Ask) -> tuple[list[Span], list[Span], list[Span]]:
    """The window, the spans of it that are claimed now, and waiting spans that are too old for the window."""
    query = current(ask.pipeline).with_for_update()
    records = [span_record(row) for row in connection.execute(query).mappings()]
    if ask.seen_until is not None:
        records = [record for record in records if record.span.seen_at <= ask.seen_until]
    claimable = {SpanState.WAITING, *([SpanState.REFUSED] if ask.refused_too else [])}
    usable = [record for record in records if record.state is SpanState.TRAINED or record.state in claimable]
    window = usable if ask.max_spans is None else usable[-ask.max_spans :]
    left_out = usable[: len(usable) - len(window)]
    return (
        [record.span for record in window],
        [record.span for record in window if record.state in claimable],
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
        window=tuple(record.span for record in _records(connection, run.pipeline, run.window)),
        new_spans=tuple(name for name, _ in run.claimed),
        again=again,
    )


def _records(connection: sa.Connection, pipeline: str, keys: Sequence[tuple[str, int]]) -> list[SpanRecord]:
    spans = schema.spans
    query = sa.select(spans).where(
        spans.c.pipeline == pipeline, sa.tuple_(spans.c.name, spans.c.revision).in_([tuple(key) for key in keys])
    )
    return [span_record(row) for row in connection.execute(query.order_by(spans.c.name)).mappings()]


def _newest_revision(connection: sa.Connection, pipeline: str, name: str) -> int:
    spans = schema.spans
    query = sa.select(sa.func.max(spans.c.revision)).where(spans.c.pipeline == pipeline, spans.c.name == name)
    return int(connection.execute(query).scalar_one())


def _run(row: Any) -> RunRow:
    return RunRow(
        run_id=row["run_id"],
        pipeline=row["pipeline"],
        status=row["status"],
        trigger=TriggerKind(row["trigger"]),
        requested_at=row["requested_at"],
        window=tuple((name, revision) for name, revision in row["window"]),
        claimed=tuple((name, revision) for name, revision in row["claimed"]),
    )


def _key(span: Span) -> tuple[str, str, int]:
    return span.pipeline, span.name, span.revision
