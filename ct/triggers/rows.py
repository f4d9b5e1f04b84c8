"""Rows of the ledger as values, and the queries that several modules ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ct.contracts import Span, TriggerKind
from ct.errors import CTError
from ct.triggers import schema
from ct.triggers.records import RunRecord, SpanRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

RUNS_LOOKED_AT = 20
"""More than `coalescing.TRIES`, with room for skipped runs between them."""
FORGOTTEN = "forget"


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


def revisions(connection: sa.Connection, pipeline: str, keys: Sequence[tuple[str, int]]) -> list[SpanRecord]:
    """These revisions of spans, ordered by name."""
    spans = schema.spans
    query = sa.select(spans).where(
        spans.c.pipeline == pipeline, sa.tuple_(spans.c.name, spans.c.revision).in_([tuple(key) for key in keys])
    )
    return [span_record(row) for row in connection.execute(query.order_by(spans.c.name)).mappings()]


def newest_runs(pipeline: str) -> sa.Select[Any]:
    """The runs that `last_run` needs to see."""
    runs = schema.runs
    newest = sa.select(runs).where(runs.c.pipeline == pipeline)
    return newest.order_by(runs.c.started_at.desc(), runs.c.run_id.desc()).limit(RUNS_LOOKED_AT)


def usable(record: SpanRecord) -> bool:
    """Whether runs may have it: not when it was deleted and is to be forgotten."""
    return record.deleted != FORGOTTEN


def span_record(row: Any) -> SpanRecord:
    """A row of `spans` as a value."""
    values = dict(row)
    span = Span(**{name: values.pop(name) for name in Span.model_fields})
    return SpanRecord(**{**values, "span": span, "rows_estimated": bool(values["rows_estimated"])})


def run_record(row: Any) -> RunRecord:
    """A row of `runs` as a value."""
    values = dict(row)
    names = {"window": tuple(n for n, _ in values["window"]), "spans": tuple(n for n, _ in values.pop("claimed"))}
    return RunRecord(**{**values, **names})


def run_row(connection: sa.Connection, run_id: str) -> RunRow:
    """A run's row.

    Raises:
        CTError: there is none.
    """
    query = sa.select(schema.runs).where(schema.runs.c.run_id == run_id).with_for_update()
    row = connection.execute(query).mappings().first()
    if row is None:
        raise unknown_run(run_id)
    return run_row_of(row)


def unknown_run(run_id: str) -> CTError:
    """The error for a run that the ledger does not have."""
    return CTError(f"The ledger knows no run {run_id}. Nothing was changed. See `ct runs`.", run_id=run_id)


def run_row_of(row: Any) -> RunRow:
    """A row of `runs` as the functions of a transaction need it."""
    return RunRow(
        run_id=row["run_id"],
        pipeline=row["pipeline"],
        status=row["status"],
        trigger=TriggerKind(row["trigger"]),
        requested_at=row["requested_at"],
        window=tuple((name, revision) for name, revision in row["window"]),
        claimed=tuple((name, revision) for name, revision in row["claimed"]),
    )
