"""What was seen in a source, written down. Every function works inside a transaction of the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from ct.contracts import Span
from ct.errors import SourceChangedError
from ct.triggers import rows, schema
from ct.triggers.records import LANDINGS, EventOutcome, EventRecord, Landing, SpanRecord, SpanState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Any, Literal

    from ct.triggers.records import Arrival

IGNORE = "ignore"
DEALT_WITH = (*LANDINGS, EventOutcome.LATE)
ADDRESSES_A_QUERY = 5000
"""Fewer than the parameters that either database takes."""
_FORGET, _KEEP = "no run trains on it any more (source.deleted: forget)", "runs keep it (source.deleted: keep)"


def record(
    connection: sa.Connection, pipeline: str, arrival: Arrival, late: Literal["train", "ignore"], now: datetime
) -> Landing:
    """See `Ledger.record_landing`."""
    spans = schema.spans.c
    akin = rows.current(pipeline).where(sa.or_(spans.name == arrival.name, spans.sha256 == arrival.sha256))
    records = [rows.span_record(row) for row in connection.execute(akin).mappings()]
    before = next((record for record in records if record.span.name == arrival.name), None)
    same = next((record for record in records if _same_bytes(record, arrival)), None)
    by_another = _recorded_by_another_look(connection, pipeline, arrival)
    if same is not None:
        if not by_another:
            _note_landing(connection, pipeline, arrival, EventOutcome.DUPLICATE, _duplicate(same), same.span, now)
        return Landing(kind=EventOutcome.DUPLICATE, span=same.span)
    kind = EventOutcome.NEW if before is None else EventOutcome.REVISION
    span = Span(
        pipeline=pipeline,
        revision=1 if before is None else before.span.revision + 1,
        seen_at=now,
        **arrival.model_dump(include={"name", "sha256", "uri", "format", "size_bytes"}),
    )
    trained = sa.and_(spans.pipeline == pipeline, spans.state == SpanState.TRAINED.value)
    newest = connection.execute(sa.select(sa.func.max(spans.name)).where(trained)).scalar_one() or ""
    lateness = f"older than {newest}, the newest trained span (source.late: {late})"
    if late == IGNORE and span.name < newest:
        _note_landing(connection, pipeline, arrival, EventOutcome.LATE, f"left out: {lateness}", span, now)
        return Landing(kind=EventOutcome.LATE, span=span)
    if before is not None and before.state is not SpanState.CLAIMED:
        superseded = rows.update_span(pipeline, span.name, before.span.revision)
        reason = f"revision {span.revision} landed"
        connection.execute(superseded.values(state=SpanState.SUPERSEDED.value, reason=reason))
    values = {**span.model_dump(), **arrival.model_dump(include={"source_uri", "rows", "rows_estimated"})}
    connection.execute(sa.insert(schema.spans).values(**values, state=SpanState.WAITING.value, reason=""))
    message = f"revision {span.revision}{f'; {lateness}' if span.name < newest else ''}"
    _note_landing(connection, pipeline, arrival, kind, message, span, now)
    return Landing(kind=kind, span=span)


def known(
    connection: sa.Connection, pipeline: str, seen: Sequence[tuple[str, str]], late: Literal["train", "ignore"]
) -> frozenset[tuple[str, str]]:
    """See `Ledger.known`."""
    events = schema.events.c
    outcomes = _values(DEALT_WITH if late == IGNORE else LANDINGS)  # what was left out as late is looked at anew
    found: set[tuple[str, str]] = set()
    for start in range(0, len(seen), ADDRESSES_A_QUERY):
        uris = [uri for uri, _ in seen[start : start + ADDRESSES_A_QUERY]]
        newest = (
            sa.select(sa.func.max(events.id))
            .where(events.pipeline == pipeline, events.uri.in_(uris), events.outcome.in_(outcomes))
            .group_by(events.uri)
        )
        query = sa.select(events.uri, events.fingerprint).where(events.id.in_(newest))
        found.update((row.uri, row.fingerprint) for row in connection.execute(query))
    return frozenset(found.intersection(seen))


def note_listing(
    connection: sa.Connection, pipeline: str, listed: frozenset[str], policy: Literal["keep", "forget"], now: datetime
) -> None:
    """See `Ledger.note_listing`."""
    records = [rows.span_record(row) for row in connection.execute(rows.current(pipeline)).mappings()]
    gone = [record for record in records if record.source_uri not in listed]
    elsewhere = _duplicates(connection, pipeline, listed) if gone else set()
    for record in records:
        span = record.span
        there = record.source_uri in listed or (span.name, span.revision) in elsewhere
        wanted = None if there else policy
        if wanted == record.deleted or record.state is SpanState.SUPERSEDED:
            continue
        outcome = EventOutcome.RETURNED if there else EventOutcome.DELETED
        message = "listed again" if there else f"listed no more; {_FORGET if policy == rows.FORGOTTEN else _KEEP}"
        connection.execute(rows.update_span(pipeline, span.name, span.revision).values(deleted=wanted))
        values = {"name": span.name, "uri": record.source_uri or span.uri, "message": message, "at": now}
        about = {"span": span.name, "revision": span.revision, "outcome": outcome.value}
        connection.execute(sa.insert(schema.events).values(pipeline=pipeline, **values, **about))


def note(
    connection: sa.Connection, pipeline: str, name: str, outcome: EventOutcome, message: str, uri: str, now: datetime
) -> None:
    """See `Ledger.record_event`."""
    events = schema.events.c
    newest = connection.execute(
        sa.select(events.outcome, events.message)
        .where(events.pipeline == pipeline, events.uri == uri)
        .order_by(events.id.desc())
        .limit(1)
    ).first()
    if newest is None or tuple(newest) != (outcome.value, message):
        values = {"pipeline": pipeline, "name": name, "outcome": outcome.value, "message": message}
        connection.execute(sa.insert(schema.events).values(**values, uri=uri, at=now))


def event_record(row: Mapping[str, Any]) -> EventRecord:
    """A row of `events` as a value."""
    return EventRecord(**{name: row[name] for name in EventRecord.model_fields})


def _recorded_by_another_look(connection: sa.Connection, pipeline: str, arrival: Arrival) -> bool:
    """Whether another process, the watcher or a run, has just recorded the very same.

    Raises:
        SourceChangedError: it has recorded something newer: what this look fetched, slowly, is out of date.
    """
    events = schema.events.c
    query = (
        sa.select(events.id, events.fingerprint, events.sha256)
        .where(events.pipeline == pipeline, events.uri == arrival.source_uri, events.outcome.in_(_values(DEALT_WITH)))
        .order_by(events.id.desc())
        .limit(1)
    )
    newest = connection.execute(query).first()
    if newest is None:
        return False
    overtaken = arrival.looked_after is not None and newest.id > arrival.looked_after
    if overtaken and newest.fingerprint != arrival.fingerprint:
        raise SourceChangedError(
            f"{arrival.source_uri} has been recorded as it is now while {arrival.name} was fetched as it was before. "
            "Nothing was recorded; the next look tells.",
            uri=arrival.source_uri,
        )
    return (newest.fingerprint, newest.sha256) == (arrival.fingerprint, arrival.sha256)


def _duplicates(connection: sa.Connection, pipeline: str, listed: frozenset[str]) -> set[tuple[str, int]]:
    """Spans whose bytes the source still lists under another address: a file that was renamed is not deleted."""
    events = schema.events.c
    query = sa.select(events.span, events.revision, events.uri).where(
        events.pipeline == pipeline, events.outcome == EventOutcome.DUPLICATE.value
    )
    return {(row.span, row.revision) for row in connection.execute(query) if row.uri in listed}


def _note_landing(
    connection: sa.Connection,
    pipeline: str,
    arrival: Arrival,
    outcome: EventOutcome,
    message: str,
    about: Span,
    now: datetime,
) -> None:
    values = {
        "pipeline": pipeline,
        "name": arrival.name,
        "outcome": outcome.value,
        "message": message,
        "at": now,
        "uri": arrival.source_uri,
        "span": about.name,
        "revision": about.revision,
        **arrival.model_dump(include={"sha256", "size_bytes", "fingerprint"}),
    }
    connection.execute(sa.insert(schema.events).values(**values))


def _same_bytes(record: SpanRecord, arrival: Arrival) -> bool:
    """Bytes that were refused under one name may be tried under another."""
    mine = record.span.name == arrival.name
    return record.span.sha256 == arrival.sha256 and (mine or record.state is not SpanState.REFUSED)


def _duplicate(same: SpanRecord) -> str:
    refused = f", which was refused: {same.reason}" if same.state is SpanState.REFUSED else ""
    return f"the same bytes as {same.span.name}, revision {same.span.revision}{refused}"


def _values(outcomes: Sequence[EventOutcome]) -> list[str]:
    return [outcome.value for outcome in outcomes]
