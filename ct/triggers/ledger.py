"""The ledger: every landing, which run has which span, and how each run ended.

Guarantees, across processes: the same bytes are claimed by one run at a time and trained once; a span that a failed run
had is claimable again; claiming again for the same Airflow run gives the same claim.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ct.contracts import Span
from ct.triggers import claims, schema
from ct.triggers.records import (
    JUDGED,
    Claim,
    EventOutcome,
    EventRecord,
    Landing,
    RunRecord,
    RunStatus,
    SpanRecord,
    SpanState,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ct.home import Home


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class SeenFile:
    """A file in a source, as it was when it was hashed."""

    name: str
    uri: str
    format: str
    size_bytes: int
    mtime_ns: int


class Ledger:
    """The ledger of one CT_HOME. Safe to use from several threads and processes; forked children open it anew or share it.

    Args:
        engine: from `schema.open_database`.
        clock: gives the time in UTC.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], datetime] = utc_now) -> None:
        self._engine = engine
        self._clock = clock

    @classmethod
    def open(cls, home: Home, clock: Callable[[], datetime] = utc_now) -> Ledger:
        """The ledger of a home, made when it is missing."""
        return cls(schema.open_database(f"sqlite:///{home.ledger}"), clock)

    def record_landing(self, pipeline: str, file: SeenFile, sha256: str) -> Landing:
        """Write a whole file down, once its bytes are hashed.

        The same bytes under the same name, or under the name of another span that was not refused, are a duplicate: no
        run will train on them again. Other bytes under a known name are its next revision; the one before is superseded
        unless a run has it right now.
        """
        with self._writing() as connection:
            known = [claims.span_record(row) for row in connection.execute(claims.current(pipeline)).mappings()]
            before = next((record for record in known if record.span.name == file.name), None)
            same = next((record for record in known if _same_bytes(record, file.name, sha256)), None)
            if same is not None:
                self._note(connection, pipeline, file, EventOutcome.DUPLICATE, _duplicate(same), sha256)
                return Landing(kind=EventOutcome.DUPLICATE, span=same.span)
            kind = EventOutcome.NEW if before is None else EventOutcome.REVISION
            span = Span(
                pipeline=pipeline,
                name=file.name,
                revision=1 if before is None else before.span.revision + 1,
                sha256=sha256,
                uri=file.uri,
                format=file.format,
                size_bytes=file.size_bytes,
                seen_at=self._clock(),
            )
            if before is not None and before.state is not SpanState.CLAIMED:
                reason = f"revision {span.revision} landed"
                superseded = claims.update_span(pipeline, file.name, before.span.revision)
                connection.execute(superseded.values(state=SpanState.SUPERSEDED.value, reason=reason))
            connection.execute(
                sa.insert(schema.spans).values(**span.model_dump(), state=SpanState.WAITING.value, reason="")
            )
            self._note(connection, pipeline, file, kind, f"revision {span.revision}", sha256)
            return Landing(kind=kind, span=span)

    def knows(self, pipeline: str, uri: str, size_bytes: int, mtime_ns: int) -> bool:
        """True when this file, unchanged since in size and time, was hashed and recorded before."""
        events = schema.events.c
        recorded = (EventOutcome.NEW.value, EventOutcome.REVISION.value, EventOutcome.DUPLICATE.value)
        query = sa.select(events.id).where(
            events.pipeline == pipeline,
            events.uri == uri,
            events.size_bytes == size_bytes,
            events.mtime_ns == mtime_ns,
            events.outcome.in_(recorded),
        )
        with self._engine.connect() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def record_event(self, pipeline: str, name: str, outcome: EventOutcome, message: str, *, uri: Path) -> None:
        """Write down something that is no landing: a file that stays half-written, a folder that cannot be read.

        Recording the same as the newest event of this address changes nothing.
        """
        with self._writing() as connection:
            events = schema.events.c
            newest = connection.execute(
                sa.select(events.outcome, events.message)
                .where(events.pipeline == pipeline, events.uri == str(uri))
                .order_by(events.id.desc())
                .limit(1)
            ).first()
            if newest is None or tuple(newest) != (outcome.value, message):
                values = {"pipeline": pipeline, "name": name, "outcome": outcome.value, "message": message}
                connection.execute(sa.insert(schema.events).values(**values, uri=str(uri), at=self._clock()))

    def claim(self, ask: claims.Ask) -> Claim | None:
        """Give a run its spans, or None when there is nothing to do; `run_of` then says why.

        Either all spans that wait are this run's when this returns, or none is. The run's record is written in the same
        transaction.
        """
        with self._writing() as connection:
            return claims.claim(connection, ask, self._clock())

    def reopen(self, run_id: str) -> None:
        """Let a run that ended go on, because one of its tasks was cleared. A run that has not ended is left alone.

        The spans that it gave back, and that no other run has taken since, are its own again.
        """
        with self._writing() as connection:
            run = claims.run_row(connection, run_id)
            if run.status == RunStatus.RUNNING.value:
                return
            claims.take_again(connection, run)

    def note_mlflow_run(self, run_id: str, mlflow_run_id: str) -> None:
        """Remember which MLflow run belongs to a run."""
        with self._writing() as connection:
            runs = schema.runs
            connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(mlflow_run_id=mlflow_run_id))

    def refuse_span(self, run_id: str, name: str, reason: str) -> None:
        """Refuse a span of a run's window. It is in no later window. Refusing it again changes nothing."""
        with self._writing() as connection:
            run = claims.run_row(connection, run_id)
            revisions = dict(run.window)
            if name in revisions:
                connection.execute(
                    claims.update_span(run.pipeline, name, revisions[name]).values(
                        state=SpanState.REFUSED.value, reason=reason, run_id=run_id
                    )
                )

    def finish_run(self, run_id: str, status: RunStatus, *, message: str = "", version: int | None = None) -> None:
        """Write down how a run ended, and settle the spans that it claimed.

        Once a candidate was judged they are trained, whatever the verdict. After a failure they wait again; those that
        wait only because another span of the run was refused count as never claimed, so that the watcher announces them
        again. Refused spans stay refused. Finishing again with the same values changes nothing.
        """
        with self._writing() as connection:
            run = claims.run_row(connection, run_id)
            claims.settle(connection, run, judged=status in JUDGED, message=message)
            values: dict[str, Any] = {"status": status.value, "message": message, "finished_at": self._clock()}
            if version is not None:
                values["version"] = version
            connection.execute(sa.update(schema.runs).where(schema.runs.c.run_id == run_id).values(**values))

    def spans(self, pipeline: str) -> tuple[SpanRecord, ...]:
        """The newest revision of every span, ordered by name."""
        return tuple(claims.span_record(row) for row in self._read(claims.current(pipeline)))

    def unclaimed(self, pipeline: str) -> tuple[Span, ...]:
        """Waiting spans that no run has had, ordered by name: those that an asset event must announce."""
        found = (record for record in self.spans(pipeline) if record.state is SpanState.WAITING)
        return tuple(record.span for record in found if record.run_id is None)

    def events(self, pipeline: str | None = None, limit: int = 100) -> tuple[EventRecord, ...]:
        """What was seen, newest first."""
        events = schema.events
        query = sa.select(events).order_by(events.c.id.desc()).limit(limit)
        rows = self._read(query if pipeline is None else query.where(events.c.pipeline == pipeline))
        return tuple(_event_record(row) for row in rows)

    def unsettled(self, pipeline: str) -> tuple[EventRecord, ...]:
        """What waits for somebody: files that stay incomplete, a folder that cannot be read. Oldest first."""
        events = schema.events
        newest = sa.select(sa.func.max(events.c.id)).where(events.c.pipeline == pipeline).group_by(events.c.uri)
        open_outcomes = (EventOutcome.INCOMPLETE.value, EventOutcome.UNREADABLE.value)
        query = sa.select(events).where(events.c.id.in_(newest), events.c.outcome.in_(open_outcomes))
        return tuple(_event_record(row) for row in self._read(query.order_by(events.c.id)))

    def runs(self, pipeline: str | None = None, limit: int = 100) -> tuple[RunRecord, ...]:
        """Runs, newest first."""
        runs = schema.runs
        query = sa.select(runs).order_by(runs.c.started_at.desc(), runs.c.run_id.desc()).limit(limit)
        rows = self._read(query if pipeline is None else query.where(runs.c.pipeline == pipeline))
        return tuple(claims.run_record(row) for row in rows)

    def run(self, run_id: str) -> RunRecord | None:
        """One run, or None when there is none of this id."""
        rows = self._read(sa.select(schema.runs).where(schema.runs.c.run_id == run_id))
        return claims.run_record(rows[0]) if rows else None

    def run_of(self, pipeline: str, airflow_run_id: str) -> RunRecord | None:
        """The run that an Airflow run executes, or None when it has claimed nothing yet."""
        runs = schema.runs
        query = sa.select(runs).where(runs.c.pipeline == pipeline, runs.c.airflow_run_id == airflow_run_id)
        rows = self._read(query)
        return claims.run_record(rows[0]) if rows else None

    def _read(self, query: sa.Select[Any]) -> list[Mapping[str, Any]]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that no other writer overlaps."""
        with self._engine.connect().execution_options(**{schema.WRITES: True}) as connection, connection.begin():
            yield connection

    def _note(
        self, connection: sa.Connection, pipeline: str, file: SeenFile, outcome: EventOutcome, message: str, sha256: str
    ) -> None:
        connection.execute(
            sa.insert(schema.events).values(
                pipeline=pipeline,
                name=file.name,
                outcome=outcome.value,
                message=message,
                at=self._clock(),
                uri=file.uri,
                sha256=sha256,
                size_bytes=file.size_bytes,
                mtime_ns=file.mtime_ns,
            )
        )


def _event_record(row: Mapping[str, Any]) -> EventRecord:
    return EventRecord(**{name: row[name] for name in EventRecord.model_fields})


def _same_bytes(record: SpanRecord, name: str, sha256: str) -> bool:
    """Bytes that were refused under one name may be tried under another."""
    return record.span.sha256 == sha256 and (record.span.name == name or record.state is not SpanState.REFUSED)


def _duplicate(same: SpanRecord) -> str:
    refused = f", which was refused: {same.reason}" if same.state is SpanState.REFUSED else ""
    return f"the same bytes as {same.span.name}, revision {same.span.revision}{refused}"
