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
    INCOMPLETE = "incomplete"
    GONE = "gone"
    """A file that was incomplete was taken away."""
    UNREADABLE = "unreadable"
    READABLE = "readable"


class RunStatus(str, Enum):
    """How a run stands."""

    RUNNING = "running"
    APPROVED = "approved"
    REFUSED = "refused"
    SKIPPED = "skipped"
    FAILED = "failed"


JUDGED = (RunStatus.APPROVED, RunStatus.REFUSED)


class SpanRecord(Value):
    """A span and where it stands."""

    span: Span
    state: SpanState
    reason: str = Field(description="Why it is refused or superseded, or why its last run failed; else empty.")
    run_id: str | None = Field(description="The run that has it, or had it last.")


class Landing(Value):
    """What the ledger made of a file."""

    kind: EventOutcome = Field(description="`new`, `revision` or `duplicate`.")
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
