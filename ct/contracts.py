"""The values that the planes and rooms share.

Standard library and pydantic only, because every plane imports this module: control and serving on Python 3.11, training
on 3.10. Every value is frozen, and what stands in a file on disk is one of these, written with `model_dump_json`.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime  # noqa: TC003  pydantic needs the class at run time
from enum import Enum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Sequence


class Value(BaseModel):
    """A frozen value that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(str, Enum):
    """The stages of a run, in order. Each is a task group in Airflow."""

    INGEST = "ingest"
    VALIDATE = "validate"
    TRAIN = "train"
    EVALUATE = "evaluate"
    RELEASE = "release"


class Span(Value):
    """One piece of data, identified by what its bytes are, not by what it is called."""

    pipeline: str
    name: str = Field(description="As its source calls it; spans are ordered by it.")
    revision: int = Field(ge=1, description="1 for the first bytes seen under this name, one more for each change.")
    sha256: str = Field(description="The hash of the bytes, in hex.")
    uri: str = Field(
        description="Where the bytes are: an absolute local path, of the source's own file or of its fetched copy."
    )
    format: str = Field(description="`csv`, `parquet` or `tfrecord`.")
    size_bytes: int = Field(ge=0)
    seen_at: datetime = Field(description="When the ledger first saw these bytes, in UTC.")


def fingerprint_of(sha256: Sequence[str], recipe_hash: str | None, seed: int | None, *, learnt: bool = False) -> str:
    """What a model is made from, as one hash: the bytes of its spans in order, its recipe and its seed.

    Args:
        sha256: hashes of the spans: the whole window, whichever of it was judged on; or those that were learnt from.
        recipe_hash: of the deployed spec; in records from before there were recipes, the spec's own hash.
        seed: of the run.
        learnt: whether the spans are those that were learnt from. No such hash equals one of a window.
    """
    made_from = json.dumps([list(sha256), recipe_hash, seed, *(["learnt"] if learnt else [])])
    return hashlib.sha256(made_from.encode()).hexdigest()


class TriggerKind(str, Enum):
    """What asked for a run."""

    DATA = "data"
    SCHEDULE = "schedule"
    MANUAL = "manual"
    BACKFILL = "backfill"


class RunRequest(Value):
    """Everything that is decided before a run's first node starts. Stored as `request.json` in the run's folder."""

    run_id: str = Field(description="ct's own id; letters, digits and dashes only.")
    pipeline: str
    spec_hash: str = Field(description="Which deployed spec this run executes.")
    trigger: TriggerKind
    requested_at: datetime = Field(description="When the newest span was seen, or when the run was asked for; UTC.")
    spans: tuple[Span, ...] = Field(
        min_length=1, description="The window, oldest first. The last one is the newest span."
    )
    new_spans: tuple[str, ...] = Field(description="Names of the spans that no run has trained on before.")
    seed: int = Field(description="Seeds numpy, Python and TensorFlow in every node.")
    airflow_dag_id: str
    airflow_run_id: str
    mlflow_run_id: str | None = Field(description="The MLflow run; None when MLflow did not answer as the run began.")
    judged_on: tuple[str, ...] = Field(
        default=(),
        description="Names of the spans that the candidate is judged on and does not learn from; empty: the newest span.",
    )
    recipe_hash: str | None = Field(default=None, description="The spec's; None where the spec has none.")

    @property
    def holdout(self) -> bool:
        """Whether the last days of an only span are judged on, because there is no other."""
        return len(self.spans) == 1

    @property
    def judged(self) -> tuple[Span, ...]:
        """The spans that the candidate is judged on, oldest first; of an only span its last days."""
        return tuple(span for span in self.spans if span.name in self.judged_on) or self.spans[-1:]

    @property
    def trained(self) -> tuple[Span, ...]:
        """The spans that the candidate learns from, oldest first; of an only span what is before its last days."""
        judged = {span.name for span in self.judged}
        return tuple(span for span in self.spans if span.name not in judged) or self.spans

    @property
    def fingerprint(self) -> str:
        """That of the version which this run will make."""
        return fingerprint_of([span.sha256 for span in self.spans], self.recipe_hash or self.spec_hash, self.seed)

    def fingerprints(self, *, refit: bool) -> tuple[str, ...]:
        """Those of the version which this run will make; with `refit` it learns from all spans once it is approved."""
        if self.holdout and not refit:
            return (self.fingerprint,)
        learnt = [span.sha256 for span in (self.spans if refit else self.trained)]
        recipe = self.recipe_hash or self.spec_hash
        return self.fingerprint, fingerprint_of(learnt, recipe, self.seed, learnt=True)


class NodeSpec(Value):
    """One TFX node as Airflow sees it."""

    id: str
    stage: Stage
    upstream: tuple[str, ...] = Field(description="Ids of the nodes that must have finished.")
    after_approval: bool = Field(description="True when the node is skipped unless the candidate was approved.")
    runs_when_upstream_skipped: bool = Field(
        default=False, description="True for Register: it records refused runs too."
    )


class DeployedSpec(Value):
    """What `ct deploy` stored, by content hash. The DAG file reads this and nothing else.

    On disk::

        deployed/<pipeline>/
          current.json            {"spec_hash": "..."}: written last
          specs/<spec_hash>/
            spec.json             this value
            ir.json               the TFX pipeline IR (protobuf JSON)
            code/<pipeline>/      the pipeline folder as it was deployed: features.py, model.py, schema.pbtxt, ...
    """

    spec_hash: str
    pipeline: str
    config: dict[str, Any] = Field(description="The PipelineConfig, as JSON values.")
    nodes: tuple[NodeSpec, ...] = Field(description="In topological order.")
    readme: str
    deployed_at: datetime
    code_commit: str | None = Field(
        description="The git commit of the pipeline folder as this content was first stored; `-dirty` where it had changes."
    )
    requirement_hashes: dict[str, str] = Field(
        description="Plane -> sha256 of its requirements file, then; what a version was made with stands in its manifest."
    )
    recipe_hash: str | None = Field(
        default=None,
        description="Of what makes the model (ct.deploy.recipe_hash); None in specs from before it was on record.",
    )


class MadeWith(Value):
    """What a node runs with that no deploy decides, read as its process imports ct (ct.made_with)."""

    version: str = Field(description="Of ct.")
    code_sha256: str = Field(description="Of those files of ct that a node which makes a model may run.")
    commit: str | None = Field(
        description="The git commit of ct's checkout, with `-dirty` where its code or pins have changes; None without one."
    )
    requirement_hashes: dict[str, str] = Field(
        description="Plane -> sha256 of the requirements file that its environment was installed from."
    )


class NodeJob(Value):
    """One node of one run, as the operator hands it to the training plane."""

    home: str = Field(description="CT_HOME, absolute.")
    spec_dir: str = Field(description="Absolute folder of the deployed spec.")
    node_id: str
    request_path: str = Field(description="Absolute path of the run's request.json.")
    attempt: int = Field(ge=1, description="Airflow's try number. Outputs of an earlier attempt are forgotten first.")

    @property
    def result_name(self) -> str:
        """The file in the run's folder that the node's NodeResult is written to."""
        return f"{self.node_id}.result.json"


class NodeResult(Value):
    """What a node left behind for the operator. Written last, next to request.json, as `<node_id>.result.json`."""

    node_id: str
    ok: bool
    message: str = Field(default="", description="One sentence for the task log; the error's message when not ok.")
    error_type: str | None = Field(default=None, description="Name of the CTError subclass, or of any other exception.")
    retryable: bool = False
    seconds: float = Field(ge=0)
    peak_rss_mb: float = Field(ge=0)
    facts: dict[str, Any] = Field(
        default_factory=dict, description="Small JSON values for XCom: row counts, verdict, version."
    )
    made_with: MadeWith | None = Field(default=None, description="What it ran with; None when it is not ok.")


def nodes_of_model(*, refit: bool) -> tuple[str, ...]:
    """The nodes that make a model, in order. All others look at it, judge it or move it."""
    return ("ExampleGen", "Schema", "Transform", "Refit" if refit else "Trainer")


class Outcome(str, Enum):
    """What the gate decided."""

    APPROVED = "approved"
    REFUSED = "refused"
    INCONCLUSIVE = "inconclusive"
    """The data cannot tell; `gate.inconclusive` of pipeline.yaml says what then happens."""


class CheckOutcome(str, Enum):
    """What one comparison came to."""

    PASS = "pass"  # noqa: S105  an outcome, no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Check(Value):
    """One comparison that the gate made."""

    name: str = Field(description="For example `auc at least 0.6` or `auc better than the champion's by more than 0`.")
    metric: str
    slice: str = Field(default="overall", description="`overall`, or `feature=value`.")
    value: float | None = Field(description="The candidate's; None when the metric is undefined on this slice.")
    baseline: float | None = Field(
        default=None, description="The champion's on the same rows; None without a champion."
    )
    threshold: float | None = Field(
        description="What it was held against; None of a value that is on record only, of which nothing is asked."
    )
    outcome: CheckOutcome
    blocking: bool = Field(default=True, description="False: recorded, and without a say in the verdict.")
    difference: float | None = Field(
        default=None,
        description="By how much the candidate is better, in the metric's own unit: positive is better whatever the metric's "
        "direction, relative to the champion's where the check is; of calibration in |log|. None for a check of the value "
        "itself.",
    )
    low: float | None = Field(
        default=None, description="Lower end of the interval: of `difference` where there is one, else of `value`."
    )
    high: float | None = Field(default=None, description="Upper end.")
    level: float | None = Field(
        default=None, description="Confidence level of the interval, after the correction for many slices."
    )
    method: str | None = Field(default=None, description="How the interval was made, such as `DeLong`.")
    rows: int | None = Field(default=None, ge=0, description="Rows that it rests on.")

    @model_validator(mode="before")
    @classmethod
    def _from_before_intervals(cls, values: object) -> object:
        """Versions that were registered before there was an outcome say `passed`, and must stay readable."""
        if isinstance(values, dict) and "passed" in values:
            values = dict(values)
            values["outcome"] = CheckOutcome.PASS if values.pop("passed") else CheckOutcome.FAIL
        return values


class Approval(Value):
    """What a person, or the time-out, answered where the policy asks for an approval."""

    approved: bool
    by: str = Field(description="The user as Airflow knows them, or `time-out`.")
    at: datetime
    reason: str


class Verdict(Value):
    """The gate's decision with every number it rests on."""

    outcome: Outcome
    reason: str = Field(description="One sentence that a person can act on.")
    checks: tuple[Check, ...]
    champion_version: int | None = Field(description="The version that served when the candidate was judged.")
    span: str = Field(description="The span that both were judged on; several, joined by `+`, after inconclusive runs.")
    rows: int = Field(ge=0)
    holdout: bool = Field(description="True when the rows are the last days of the only span, not a whole newer span.")
    holdout_days: int | None = Field(
        default=None, description="How many last days those are; None for a whole span, and before this was on record."
    )
    alpha: float | None = Field(default=None, description="The largest chance of a false pass that the policy allows.")
    judged_sha256: tuple[str, ...] = Field(default=(), description="Hashes of the spans that both were judged on.")
    trained_sha256: tuple[str, ...] = Field(
        default=(), description="Hashes of the spans that the candidate learnt from."
    )
    seed: int | None = Field(default=None, description="Of the bootstrap.")


class Feature(Value):
    """One raw feature of a model's serving signature."""

    name: str
    dtype: str = Field(description="TensorFlow's name: string, float32 or int64.")


class RefitAgreement(Value):
    """How far a refitted model is from its twin, on rows that the twin was judged on."""

    rows: int = Field(ge=0)
    band: float = Field(description="`gate.refit_band`: how much worse it may be in AUC.")
    level_band: float = Field(description="`gate.refit_level`: how much worse it may be in its level.")
    difference_band: float | None = Field(
        default=None, description="`gate.refit_difference`; None of a version from before that was limited."
    )
    auc: float | None = Field(description="None where the rows have one class only.")
    twin_auc: float | None
    level_error: float = Field(description="Distance of the mean prediction from the share of positive labels.")
    twin_level_error: float
    mean_difference: float = Field(description="Mean absolute difference between the two models' predictions.")

    @model_validator(mode="before")
    @classmethod
    def _from_before_level_band(cls, values: object) -> object:
        """Versions from before the level had a limit of its own were held to `band` in both, and must stay readable."""
        if isinstance(values, dict) and "level_band" not in values and "band" in values:
            return {**values, "level_band": values["band"]}
        return values


class VersionManifest(Value):
    """What a version folder holds. `manifest.json` is written last: a folder without it is not a version.

    On disk::

        models/<name>/
          desired.json            DesiredState: which version should serve
          history.jsonl           one HistoryEntry a line, appended
          change.json             the journal of a change that is under way or was cut short (ct.rollout.journal)
          registry.behind         there while MLflow is still to be told what changed
          quarantine.json         the QuarantineRecord of each version that was withdrawn
          pins.json               the versions that garbage collection keeps
          lock, write.lock        held by who changes it (ct.rollout.locks)
          versions/<version>/
            saved_model/          the TensorFlow SavedModel, signature `serving_default` on raw features
            examples.json         {"instances": [...], "predictions": [...]}: computed offline at evaluation
            manifest.json         this value
            proof.json            Proof, once there is one
          workers/<pid>.json      WorkerState of each live serving worker
    """

    name: str
    version: int = Field(ge=1)
    created_at: datetime
    run_id: str
    mlflow_run_id: str | None
    features: tuple[Feature, ...]
    label: str
    spans: tuple[Span, ...]
    refit: bool = Field(description="True when the model was trained once more with the span it was judged on.")
    verdict: Verdict
    saved_model_sha256: str = Field(description="Hash over the sorted relative paths and bytes of saved_model/.")
    prediction_tolerance: float = Field(gt=0, description="Largest absolute difference between offline and served.")
    spec_hash: str | None = Field(default=None, description="The deployed spec that trained it.")
    recipe_hash: str | None = Field(default=None, description="That spec's recipe; None where the spec has none.")
    seed: int | None = None
    approval: Approval | None = Field(default=None, description="A person's answer, where the policy asked for one.")
    agreement: RefitAgreement | None = Field(
        default=None, description="Of refit and twin, whichever of them the version is; None where there was no refit."
    )
    withheld: str | None = Field(
        default=None,
        description="Why an approved candidate may not serve: its refit does not agree with it. The version is the candidate.",
    )
    made_with: tuple[MadeWith, ...] = Field(
        default=(),
        description="What the nodes that made the model ran with, each once, that of the one that trained last: more than one "
        "where ct or its pins changed within the run. Empty in records from before.",
    )

    @property
    def fingerprint(self) -> str:
        """What it was made from, as one hash: the bytes of its spans in order, its recipe and its seed.

        Two versions with one fingerprint are one model, trained twice.
        """
        return fingerprint_of([span.sha256 for span in self.spans], self.recipe_hash or self.spec_hash, self.seed)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprint, and another over those spans alone that the model has learnt from, where they are on record.

        A version that shares one of them with another is that one trained again: from the same window, whichever spans were
        judged on; or from the same spans, whichever others were judged on. None for a version without spans. One that learnt
        from a part of its only span has the first alone: no hash on record is of that part.
        """
        if not self.spans:
            return ()
        whole = [span.sha256 for span in self.spans]
        apart = () if self.verdict.holdout else self.verdict.trained_sha256
        learnt = whole if self.refit else list(apart)
        recipe = self.recipe_hash or self.spec_hash
        return self.fingerprint, *([fingerprint_of(learnt, recipe, self.seed, learnt=True)] if learnt else [])

    @property
    def may_serve(self) -> bool:
        """Whether the gate, or a person whom the policy asked, approved it, and nothing was found against it since."""
        if self.withheld is not None:
            return False
        return self.approval.approved if self.approval else self.verdict.outcome is Outcome.APPROVED


class Proof(Value):
    """What came of starting the very service on a version's very files, before they may serve.

    `proof.json` in the version's folder and in the run's.
    """

    name: str
    version: int = Field(ge=1)
    champion_version: int | None = Field(description="What it was measured beside; None when nothing served.")
    reason: str = Field(description="What was found, a sentence a check; of a failed proof, only what failed.")
    checks: tuple[Check, ...]
    measured: dict[str, float] = Field(
        default_factory=dict, description="Numbers with their unit in the name, of the champion too: `champion_p99_ms`."
    )
    at: datetime
    seconds: float = Field(ge=0, description="What the proof took.")

    @property
    def passed(self) -> bool:
        """Whether the version may serve as far as the proof goes."""
        return all(check.outcome is CheckOutcome.PASS for check in self.checks if check.blocking)


class Canary(Value):
    """A version that answers a share of a model's requests, the same ones each time."""

    version: int = Field(ge=1)
    share: float = Field(gt=0, lt=1, description="Of the keys, not of the requests: 0.1 is every tenth key.")
    key: str = Field(
        pattern=r"^(header:[A-Za-z0-9-]+|feature:.+)$",
        description="`header:<name>` or `feature:<name>`: what is hashed. A request without it is answered by the champion.",
    )


class DesiredState(Value):
    """Which versions of one model should serve. Replaced atomically; serving workers follow it."""

    name: str
    generation: int = Field(ge=1, description="One more at each change; workers answer with the one they reached.")
    version: int = Field(ge=1)
    previous: int | None
    warm: tuple[int, ...] = Field(
        description="Versions that stay loaded: the serving one first, then canary and shadow, then the newest that served."
    )
    canary: Canary | None = None
    shadow: int | None = Field(
        default=None, ge=1, description="A version that predicts the same rows unseen; clients never get its answers."
    )


class Change(str, Enum):
    """What changed a model's desired state."""

    ROLLOUT = "rollout"
    ROLLBACK = "rollback"
    REVERT = "revert"
    CANARY = "canary"
    """A canary began or its share changed; `version` serves on."""
    SHADOW = "shadow"
    """A shadow began; `version` serves on."""
    END = "end"
    """Canary and shadow ended with nothing else changed; of a canary that the monitor ends, the canary alone."""


class HistoryEntry(Value):
    """One change of what serves: what, when, who and why."""

    generation: int
    change: Change
    version: int
    previous: int | None
    at: datetime
    actor: str = Field(description="`run <run_id>`, the user who ran the command, or `token <name>`.")
    reason: str
    canary: Canary | None = None
    shadow: int | None = None
    forced: bool = Field(
        default=False,
        description="A person let the version serve against verdict or proof, or without a verdict against what served.",
    )
    quarantined: int | None = Field(
        default=None, description="The version that this rollback, or this end of a canary, quarantined."
    )

    @property
    def lets_answer(self) -> int:
        """The version that a rollout, a rollback or a canary is about."""
        return self.canary.version if self.canary else self.version


class Lift(Value):
    """The end of a quarantine."""

    at: datetime
    by: str
    reason: str


class QuarantineRecord(Value):
    """A version that must not serve again, nor a candidate made from the same inputs, until somebody lifts the quarantine."""

    version: int = Field(ge=1)
    generation: int = Field(ge=1, description="Of the change that quarantined it.")
    fingerprints: tuple[str, ...] = Field(description="The version's; empty when its manifest could not be read.")
    reason: str
    by: str
    at: datetime
    lifted: Lift | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_before(cls, record: Any) -> Any:
        """Records had one fingerprint, of the window."""
        if isinstance(record, dict) and "fingerprint" in record:
            record = dict(record)
            found = record.pop("fingerprint")
            record["fingerprints"] = [] if found is None else [found]
        return record


class WorkerState(Value):
    """What one serving worker process has loaded. Replaced atomically by that worker."""

    pid: int
    started_at: datetime = Field(description="Process start; with the pid it tells a live worker from a reused pid.")
    generation: int = Field(ge=0, description="The newest DesiredState this worker has dealt with; 0 before the first.")
    serving: int | None
    loaded: tuple[int, ...]
    error: str | None = Field(default=None, description="Why the desired version was not taken; the worker serves on.")
