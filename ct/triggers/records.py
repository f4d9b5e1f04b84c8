"""What the ledger answers with. Frozen values; the CLI prints them with `model_dump_json`."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  pydantic needs the class at run time
from enum import Enum

from pydantic import Field

from ct.contracts import Span, TriggerKind, Value


class SpanState(str, Enum):
    """Where a span stands. Every span that landed ends as trained, refused or superseded."""

    WAITING = "waiting"
    """No run has it: it is new, or the run that had it failed."""
    CLAIMED = "claimed"
    """A run that has not ended has it."""
    TRAINED = "trained"
    """A gate has judged a candidate of a run with it. It is part of later windows."""
    REFUSED = "refused"
    """Its bytes cannot be trained on, or break the schema."""
    SUPERSEDED = "superseded"
    """Newer bytes landed under its name, or it is older than the window reaches."""


class EventOutcome(str, Enum):
    """What was made of something seen in a source."""

    NEW = "new"
    REVISION = "revision"
    DUPLICATE = "duplicate"
    LATE = "late"
    """Older than the newest trained span, and left out as `source.late: ignore` asks."""
    INCOMPLETE = "incomplete"
    GONE = "gone"
    """A file that was incomplete was taken away."""
    UNREADABLE = "unreadable"
    READABLE = "readable"
    DELETED = "deleted"
    """The source does not list it any more."""
    RETURNED = "returned"
    """The source lists it again."""


LANDINGS = (EventOutcome.NEW, EventOutcome.REVISION, EventOutcome.DUPLICATE)
"""Outcomes of whole spans whose bytes were hashed."""


class RunStatus(str, Enum):
    """How a run stands."""

    RUNNING = "running"
    APPROVED = "approved"
    REFUSED = "refused"
    INCONCLUSIVE = "inconclusive"
    """The gate's data could not tell, and nobody who was asked said otherwise: the champion serves on."""
    SKIPPED = "skipped"
    FAILED = "failed"


JUDGED = (RunStatus.APPROVED, RunStatus.REFUSED, RunStatus.INCONCLUSIVE)


class SkipCause(str, Enum):
    """Why a run ended before it trained, though nothing failed."""

    NO_NEW_DATA = "no new data"
    COOLDOWN = "cooldown"
    TOO_FEW_ROWS = "too few rows"
    SCHEMA_BREAK = "schema break"
    UNREADABLE_SPAN = "unreadable span"


BEFORE_CLAIM = (SkipCause.NO_NEW_DATA, SkipCause.COOLDOWN, SkipCause.TOO_FEW_ROWS)
"""Causes of runs that took no span."""


class Arrival(Value):
    """A whole span of a source as a local file, hashed."""

    name: str
    source_uri: str = Field(description="Its address in the source.")
    uri: str = Field(description="The local file.")
    format: str
    sha256: str
    size_bytes: int
    fingerprint: str = Field(description="The source's: another one whenever the bytes may be others.")
    rows: int | None = Field(default=None, description="None where counting would mean reading it all.")
    rows_estimated: bool = Field(
        default=False, description="True of CSV, whose line ends are counted, quoted ones too."
    )
    looked_after: int | None = Field(default=None, description="`Ledger.position` before the look that found it.")


class SpanRecord(Value):
    """A span and where it stands."""

    span: Span
    state: SpanState
    reason: str = Field(description="Why it is refused or superseded, or why its last run failed; else empty.")
    run_id: str | None = Field(description="The run that has it, or had it last.")
    source_uri: str | None = None
    rows: int | None = None
    rows_estimated: bool = False
    deleted: str | None = Field(
        default=None, description="None while the source lists it, else what that means: `keep` or `forget`."
    )


class Landing(Value):
    """What the ledger made of a file."""

    kind: EventOutcome = Field(description="`new`, `revision`, `duplicate` or `late`.")
    span: Span = Field(description="The span of these bytes; of a duplicate, the one seen before.")


class EventRecord(Value):
    """Something that was seen in a source."""

    pipeline: str
    name: str
    outcome: EventOutcome
    message: str
    at: datetime
    uri: str
    sha256: str | None
    size_bytes: int | None
    span: str | None = Field(default=None, description="The span it is about; of a duplicate, the one seen before.")
    revision: int | None = None


class EndKind(str, Enum):
    """What became of an event."""

    CONSUMED = "consumed"
    WAITING = "waiting"
    SUPERSEDED = "superseded"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    INCOMPLETE = "incomplete"
    NOTED = "noted"
    """It says something of the source, and holds no data."""


class EventEnd(Value):
    """An event and what became of it."""

    event: EventRecord
    end: EndKind
    why: str = Field(description="By which run, for what, or why.")
    run_id: str | None = None
    judged: bool | None = Field(default=None, description="Of a consumed one: whether a gate has judged it.")


class Claim(Value):
    """The spans that one run works on. Claiming again for the same Airflow run gives the same spans and run id."""

    run_id: str
    trigger: TriggerKind
    requested_at: datetime = Field(description="When the newest claimed span was seen, or when the run was asked for.")
    window: tuple[Span, ...] = Field(min_length=1, description="Oldest first.")
    new_spans: tuple[str, ...] = Field(description="Names of the window's spans that no run has trained on before.")
    again: bool = Field(description="True when this Airflow run had claimed before: a retry, or a cleared task.")


class RunRecord(Value):
    """One run, from its claim to its end."""

    run_id: str
    pipeline: str
    trigger: TriggerKind
    status: RunStatus
    spans: tuple[str, ...] = Field(description="Names of the spans it claimed: those that were new to it.")
    window: tuple[str, ...] = Field(description="Names of all spans it works on, oldest first.")
    requested_at: datetime
    started_at: datetime
    finished_at: datetime | None
    message: str = Field(description="The verdict's reason, or why it failed or was skipped.")
    version: int | None = Field(description="The model version that it registered.")
    airflow_dag_id: str
    airflow_run_id: str
    mlflow_run_id: str | None
    cause: SkipCause | None = Field(default=None, description="Of a skipped run.")
