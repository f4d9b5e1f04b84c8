"""The errors of ct: one base class, facts as keyword arguments, and a message that names the next step.

Whether a retry can help is part of the type: `retryable` is what the Airflow operator asks before it retries a task.
"""

from __future__ import annotations

from typing import Any, ClassVar


class CTError(Exception):
    """The base of every error that ct raises on purpose.

    The message says what happened, to which run, span or version, what state things are in now, and what to do next.
    `facts` hold the same as values, for `--json` and for logs. `exit_code` is what the CLI exits with.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class ConfigError(CTError):
    """A setting or a pipeline.yaml is wrong. Nothing was changed."""

    exit_code = 2


class HomeError(CTError):
    """CT_HOME cannot be used: another version wrote it, or it is not writable."""


class PlaneMissingError(CTError):
    """The environment of a plane is not installed."""


class SpanRefusedError(CTError):
    """A span's bytes cannot be trained on. Nothing was trained; the next good span is not affected."""


class SourceError(CTError):
    """A source cannot be reached or read. Nothing was recorded; the next look tries again."""

    retryable = True


class SourceChangedError(SourceError):
    """What a source offered has changed before it was fetched; the next look offers what is there then."""


class DataAnomalyError(CTError):
    """A span is readable, but its data breaks the pipeline's schema."""


class NodeFailedError(CTError):
    """A pipeline node failed in its own code. Trying again may help."""

    retryable = True


class WorkerLostError(CTError):
    """The warm worker went away while a node ran. Trying again helps once it is back."""

    retryable = True


class RegistryError(CTError):
    """The MLflow server refused or did not answer."""

    retryable = True


class NotRegisteredError(RegistryError):
    """The MLflow server has no such version."""

    retryable = False


class UnscorableError(CTError):
    """A model gives no predictions for the rows that it is to be judged on."""


class NothingToProveError(CTError):
    """No row can be sent to a model, so nothing can show that it serves what it predicted offline."""


class UnknownVersionError(CTError):
    """A model version was asked for that is not in the model store."""


class RolloutError(CTError):
    """What serves was not changed as asked. The message says what serves and what is desired now."""


class ReproduceError(CTError):
    """A version cannot be built again from its record, or what is here is not what the record names."""


class ProofFailedError(CTError):
    """A version would not serve as it should: the very service, started on its very files, failed a check."""


class ServiceNotStartedError(CTError):
    """The service in which a version is to be proven did not start. Trying again may help."""

    retryable = True


class DaemonError(CTError):
    """A process of the daemon did not start, did not become healthy, or did not stop."""


class OrchestratorError(CTError):
    """Airflow's API refused or did not answer."""

    retryable = True
