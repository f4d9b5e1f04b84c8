"""The ledger: every landing, which run has which span, and how each run ended.

Guarantees, across processes: the same bytes are claimed by one run at a time and trained once; a span that a failed run
had is claimable again; claiming again for the same Airflow run gives the same claim.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ct.settings import Settings
from ct.sources.contract import Newest
from ct.triggers import claims, landings, rows, schema
from ct.triggers.coalescing import WaitingSpan, decide
from ct.triggers.database import Database
from ct.triggers.ends import Standing, end_of
from ct.triggers.records import (
    JUDGED,
    LANDINGS,
    Arrival,
    Claim,
    EventEnd,
    EventOutcome,
    EventRecord,
    Landing,
    RunRecord,
    RunStatus,
    SkipCause,
    SpanRecord,
    SpanState,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal

    from ct.config import TriggerConfig
    from ct.home import Home
    from ct.triggers.coalescing import Due, Wait


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(timezone.utc)


class Ledger:
    """The ledger of one CT_HOME. Safe to use from several threads and processes; forked children open it anew or share it.

    Every method raises LedgerError when the database does not answer; then nothing was written.

    Args:
        database: where it is kept.
        clock: gives the time in UTC.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    @classmethod
    def open(cls, home: Home, clock: Callable[[], datetime] = utc_now) -> Ledger:
        """The ledger of a home, made when it is missing: `ledger.db` in it, or what the setting `ledger_url` names.

        Raises:
            ConfigError: the setting is wrong.
            LedgerError: the database cannot be reached, or a newer ct has changed its tables.
        """
        return cls(Database.open(Settings.load(home).ledger_url or f"sqlite:///{home.ledger}"), clock)

    def record_landing(self, pipeline: str, arrival: Arrival, late: Literal["train", "ignore"] = "train") -> Landing:
        """Write a whole span down, once its bytes are hashed.

        The same bytes under the same name, or under the name of another span that was not refused, are a duplicate: no
        run will train on them again. Other bytes under a known name are its next revision; the one before is superseded
        unless a run has it right now. Recording what another process has just recorded changes nothing.

        Args:
            pipeline: whose span it is.
            arrival: the span.
            late: what becomes of bytes whose name sorts before the newest trained span's; `ignore` only writes them down.

        Raises:
            SourceChangedError: another process has looked later and recorded what is there now.
        """
        with self._database.writing(pipeline) as connection:
            return landings.record(connection, pipeline, arrival, late, self._clock())

    def known(
        self, pipeline: str, seen: Sequence[tuple[str, str]], late: Literal["train", "ignore"] = "train"
    ) -> frozenset[tuple[str, str]]:
        """Those of the pairs of address and fingerprint that are what was recorded last for the address.

        With `late` as `train`, what had been left out as late does not count.
        """
        if not seen:
            return frozenset()
        with self._database.reading() as connection:
            return landings.known(connection, pipeline, seen, late)

    def note_listing(self, pipeline: str, listed: frozenset[str], policy: Literal["keep", "forget"]) -> None:
        """Write down which spans the source lists no more, or lists again. Doing it again changes nothing.

        Args:
            pipeline: whose source it is.
            listed: every address that it lists now.
            policy: `forget` takes deleted spans out of later windows, until they return; `keep` does not.
        """
        with self._database.writing(pipeline) as connection:
            landings.note_listing(connection, pipeline, listed, policy, self._clock())

    def record_event(self, pipeline: str, name: str, outcome: EventOutcome, message: str, *, uri: str) -> None:
        """Write down something that is no landing: a file that stays half-written, a folder that cannot be read.

        Recording the same as the newest event of this address changes nothing.
        """
        with self._database.writing(pipeline) as connection:
            landings.note(connection, pipeline, name, outcome, message, uri, self._clock())

    def claim(self, ask: claims.Ask) -> Claim | None:
        """Give a run its spans, or None when there is nothing to do; `run_of` then says why.

        Either all spans that wait are this run's when this returns, or none is. The run's record is written in the same
        transaction.
        """
        with self._database.writing(ask.pipeline) as connection:
            return claims.claim(connection, ask, self._clock())

    def reopen(self, run_id: str) -> None:
        """Let a run that ended go on, because one of its tasks was cleared. A run that has not ended is left alone.

        The spans that it gave back, and that no other run has taken since, are its own again.
        """
        with self._database.writing(self._pipeline_of(run_id)) as connection:
            run = rows.run_row(connection, run_id)
            if run.status == RunStatus.RUNNING.value:
                return
            claims.take_again(connection, run)

    def note_mlflow_run(self, run_id: str, mlflow_run_id: str) -> None:
        """Remember which MLflow run belongs to a run."""
        with self._database.writing(self._pipeline_of(run_id)) as connection:
            runs = schema.runs
            connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(mlflow_run_id=mlflow_run_id))

    def finish_run(
        self,
        run_id: str,
        status: RunStatus,
        *,
        message: str = "",
        version: int | None = None,
        cause: SkipCause | None = None,
        refused: Mapping[str, str] | None = None,
    ) -> None:
        """Write down how a run ended, and settle the spans that it claimed, in one transaction.

        Once a candidate was judged they are trained, whatever the verdict. Otherwise they wait again; those that wait only
        because another span of the run was refused count as never claimed, so that the watcher announces them again.
        Refused spans stay refused. Finishing again with the same values changes nothing.

        Args:
            run_id: the run.
            status: how it ended.
            message: the verdict's reason, or why it failed or was skipped.
            version: what it registered.
            cause: of a skipped run.
            refused: span -> why its data cannot be trained on.
        """
        with self._database.writing(self._pipeline_of(run_id)) as connection:
            run = rows.run_row(connection, run_id)
            for name, reason in (refused or {}).items():
                claims.refuse(connection, run, name, reason)
            claims.settle(connection, run, judged=status in JUDGED, message=message)
            values: dict[str, Any] = {"status": status.value, "message": message, "finished_at": self._clock()}
            values["cause"] = None if cause is None else cause.value
            if version is not None:
                values["version"] = version
            connection.execute(sa.update(schema.runs).where(schema.runs.c.run_id == run_id).values(**values))

    def spans(self, pipeline: str) -> tuple[SpanRecord, ...]:
        """The newest revision of every span, ordered by name."""
        return tuple(rows.span_record(row) for row in self._database.read(rows.current(pipeline)))

    def position(self, pipeline: str) -> int:
        """The number of the newest event; what is recorded from now on has a higher one."""
        events = schema.events
        found = self._database.read(sa.select(sa.func.max(events.c.id).label("id")).where(_of(events, pipeline)))
        return int(found[0]["id"] or 0)

    def newest(self, pipeline: str, address: str) -> Newest | None:
        """Of the whole spans that were seen below an address, duplicates too, the one that sorts last."""
        events = schema.events.c
        below = events.uri.startswith(address, autoescape=True)
        whole = events.outcome.in_([outcome.value for outcome in (*LANDINGS, EventOutcome.LATE)])
        query = sa.select(events.name, events.uri).where(events.pipeline == pipeline, below, whole)
        found = self._database.read(query.order_by(events.name.desc(), events.id.desc()).limit(1))
        return Newest(**found[0]) if found else None

    def waiting(self, pipeline: str) -> tuple[SpanRecord, ...]:
        """Spans that the next run may take, ordered by name."""
        states = schema.spans.c.state == SpanState.WAITING.value
        found = (rows.span_record(row) for row in self._database.read(rows.current(pipeline).where(states)))
        return tuple(record for record in found if rows.usable(record))

    def decide(self, pipeline: str, settings: TriggerConfig) -> Due | Wait:
        """Whether the spans that wait are due, or what they wait for."""
        spans = schema.spans.c
        query = rows.current(pipeline).where(
            spans.state == SpanState.WAITING.value, spans.deleted.is_distinct_from(rows.FORGOTTEN)
        )
        found = self._database.read(query.with_only_columns(spans.seen_at, spans.rows, spans.run_id))
        waiting = [WaitingSpan(row["seen_at"], row["rows"], had_run=row["run_id"] is not None) for row in found]
        runs = [rows.run_record(row) for row in self._database.read(rows.newest_runs(pipeline))] if waiting else []
        return decide(waiting, claims.last_run(runs), self._clock(), settings)

    def events(self, pipeline: str | None = None, limit: int | None = 100) -> tuple[EventRecord, ...]:
        """What was seen, newest first."""
        events = schema.events
        query = sa.select(events).order_by(events.c.id.desc()).limit(limit)
        found = self._database.read(query if pipeline is None else query.where(events.c.pipeline == pipeline))
        return tuple(landings.event_record(row) for row in found)

    def ends(self, pipeline: str, settings: TriggerConfig, limit: int | None = 100) -> tuple[EventEnd, ...]:
        """What was seen and what became of it, newest first."""
        spans, events = schema.spans, schema.events
        seen = self.events(pipeline, limit)  # first, then what they refer to: that is never removed
        newest = sa.select(sa.func.max(events.c.id)).where(_of(events, pipeline)).group_by(events.c.uri)
        newest_events = map(
            landings.event_record, self._database.read(sa.select(events).where(events.c.id.in_(newest)))
        )
        every = [rows.span_record(row) for row in self._database.read(sa.select(spans).where(_of(spans, pipeline)))]
        standing = Standing(
            spans={(record.span.name, record.span.revision): record for record in every},
            runs={run.run_id: run for run in self.runs(pipeline, limit=None)},
            newest={event.uri: event for event in newest_events},
            decision=self.decide(pipeline, settings),
        )
        return tuple(end_of(event, standing) for event in seen)

    def unsettled(self, pipeline: str) -> tuple[EventRecord, ...]:
        """What waits for somebody: files that stay incomplete, a folder that cannot be read. Oldest first."""
        events = schema.events
        newest = sa.select(sa.func.max(events.c.id)).where(events.c.pipeline == pipeline).group_by(events.c.uri)
        open_outcomes = (EventOutcome.INCOMPLETE.value, EventOutcome.UNREADABLE.value)
        query = sa.select(events).where(events.c.id.in_(newest), events.c.outcome.in_(open_outcomes))
        return tuple(landings.event_record(row) for row in self._database.read(query.order_by(events.c.id)))

    def runs(self, pipeline: str | None = None, limit: int | None = 100) -> tuple[RunRecord, ...]:
        """Runs, newest first."""
        runs = schema.runs
        query = sa.select(runs).order_by(runs.c.started_at.desc(), runs.c.run_id.desc()).limit(limit)
        found = self._database.read(query if pipeline is None else query.where(runs.c.pipeline == pipeline))
        return tuple(rows.run_record(row) for row in found)

    def run(self, run_id: str) -> RunRecord | None:
        """One run, or None when there is none of this id."""
        found = self._database.read(sa.select(schema.runs).where(schema.runs.c.run_id == run_id))
        return rows.run_record(found[0]) if found else None

    def run_of(self, pipeline: str, airflow_run_id: str) -> RunRecord | None:
        """The run that an Airflow run executes, or None when it has claimed nothing yet."""
        runs = schema.runs
        query = sa.select(runs).where(runs.c.pipeline == pipeline, runs.c.airflow_run_id == airflow_run_id)
        found = self._database.read(query)
        return rows.run_record(found[0]) if found else None

    def _pipeline_of(self, run_id: str) -> str:
        run = self.run(run_id)
        if run is None:
            raise rows.unknown_run(run_id)
        return run.pipeline


def _of(table: sa.Table, pipeline: str) -> sa.ColumnElement[bool]:
    return table.c.pipeline == pipeline
