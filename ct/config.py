"""pipeline.yaml: what a pipeline is, as frozen values, and the one function that reads it.

Every key has a default that says why, or is required. A key that does not exist is an error that names the nearest one.
"""

from __future__ import annotations

import difflib
import re
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ConfigDict, Field, Tag, ValidationError, field_validator, model_validator

from ct.config_block import Block
from ct.errors import ConfigError
from ct.gate_config import BUILT_IN, DECIDING, GateConfig, SlicesConfig
from ct.monitor_config import MonitorConfig
from ct.retention_config import RetentionConfig
from ct.source_config import FolderSourceConfig, SourceConfig
from ct.validate_config import ValidateConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

PIPELINE_FILES = ("pipeline.yaml", "features.py", "model.py", "schema.pbtxt", "README.md")
NODE_IDS = (
    "ExampleGen",
    "StatisticsGen",
    "Schema",
    "ExampleValidator",
    "Transform",
    "Trainer",
    "Champion",
    "Evaluator",
    "Gate",
    "Refit",
    "Register",
    "Prove",
    "Rollout",
)
CRON_FIELDS = 5
CREDENTIALS = re.compile(r"//[^/@]*@")
"""What may stand before the host of a URI; never shown."""

NodeId = Literal[
    "ExampleGen",
    "StatisticsGen",
    "Schema",
    "ExampleValidator",
    "Transform",
    "Trainer",
    "Champion",
    "Evaluator",
    "Gate",
    "Refit",
    "Register",
    "Prove",
    "Rollout",
]


class QueueConfig(Block):
    """A queue whose messages say that data has landed: each makes ct look at the source at once.

    What a message holds is not read: the source says what is there. Airflow's own message-queue triggers wait for it.
    """

    kind: Literal["kafka", "redis"]
    """`kafka`: a topic; `redis`: a channel, PUBLISH. A channel keeps nothing for whoever does not listen at that moment, so a
    look every `poll_interval_s` goes on beside it."""

    connection: str
    """The Airflow connection, of type `kafka` or `redis`."""

    topic: str
    """The topic or channel."""


class TriggerConfig(Block):
    """What starts a run. At least one of `on_data`, `schedule` and `assets`; with several, whichever comes first."""

    on_data: bool = True
    """Start a run when a span lands in the source."""

    poll_interval_s: float | None = Field(default=None, gt=0)
    """Seconds between two looks at the source. Default: for a folder 0.25, and 0.1 ms a file where it has thousands, so that
    looking takes at most a tenth of a core; 1 for any other source."""

    settle_s: float = Field(default=2.0, ge=0)
    """Seconds a file must keep its size and time before it counts as written. Writers that rename into place may use 0."""

    fetch_timeout_s: float = Field(default=3600.0, gt=0)
    """Seconds that a run's first task may take to fetch from the source what the watcher has not fetched yet. A span is fetched
    whole or not at all, so this must be enough for the largest."""

    cooldown_s: float = Field(default=0.0, ge=0)
    """Least seconds between the end of a run and the claim of the next that data or the schedule starts. 0: as soon as a span
    is there, because freshness is what most want; a burst of landings then is the run of its first span and one more."""

    min_new_rows: int = Field(default=0, ge=0)
    """Rows that must be new before data or the schedule starts a run. CSV's rows are counted by line ends, an estimate."""

    max_wait_s: float | None = Field(default=None, gt=0)
    """Seconds after which a waiting span is trained on, whatever `cooldown_s` and `min_new_rows` say. Default: no limit."""

    catch_up: Literal["together", "one_by_one"] = "together"
    """When several spans wait, as when a pipeline is new or was paused: `together` makes one run over all of them,
    `one_by_one` a run for each, in the order of their names, so that each is judged on as when ct had been there."""

    queue: QueueConfig | None = None
    """Look at the source when a message comes, too; `poll_interval_s` may then be long."""

    assets: tuple[str, ...] = ()
    """URIs of Airflow assets that other DAGs update: each update starts a run, which looks at the source first."""

    schedule: str | None = None
    """A cron expression of five fields, for example `0 9 * * FRI`."""

    timezone: str = "UTC"
    """IANA name of the zone that `schedule` is read in."""

    @field_validator("schedule")
    @classmethod
    def _five_fields(cls, schedule: str | None) -> str | None:
        if schedule is not None and len(schedule.split()) != CRON_FIELDS:
            raise ValueError("must be a cron expression of five fields, for example '0 9 * * FRI'")
        return schedule

    @model_validator(mode="after")
    def _something_starts_a_run(self) -> TriggerConfig:
        if not (self.on_data or self.schedule or self.assets):
            raise ValueError(
                "nothing would ever start a run: set `on_data: true`, a `schedule`, `assets`, or several of them"
            )
        return self


class WindowConfig(Block):
    """Which spans a run trains on."""

    max_spans: int | None = Field(default=None, ge=2)
    """Newest spans to use, the one the candidate is judged on included. Default: all."""

    time_column: str
    """A column that holds each row's time (ISO 8601 text or a timestamp); it orders the rows of the very first span."""

    first_span_holdout_days: int = Field(default=7, ge=1)
    """Of the very first span, the last so many days are held out to judge on, because no newer span exists yet."""


class NodeConfig(Block):
    """How Airflow runs a node."""

    retries: int = Field(default=2, ge=0)
    """Further tries after a failure that another try may mend. Bad data is never retried."""

    retry_delay_s: float = Field(default=5.0, gt=0)
    """Seconds before the first retry; it doubles with each."""

    timeout_s: float = Field(default=3600.0, gt=0)
    """Seconds before the node is killed and counts as failed."""


class TrainConfig(Block):
    """What model.py's run_fn gets."""

    epochs: int = Field(default=1, ge=1)
    """Passes over the training rows."""

    batch_size: int = Field(default=512, ge=1)
    """Rows a step."""

    hyperparameters: dict[str, float | int | str | bool] = Field(default_factory=dict)
    """Anything else that model.py reads; passed through `fn_args.custom_config` and recorded in MLflow."""


class MetricConfig(Block):
    """A metric of TFMA or Keras, in TFMA's own words."""

    name: str
    """What `gate.checks` and MLflow call it."""

    class_name: str
    """The class, such as `Precision`: one of TFMA's or of `tf.keras.metrics`."""

    module: str | None = None
    """Where the class is, when it is neither TFMA's nor Keras's."""

    config: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the class, such as `thresholds: 0.3`."""

    better: Literal["higher", "lower"] | None = None
    """Which of two values is better. Required of a metric that a check of the gate compares with the champion's."""


class EvaluateConfig(Block):
    """What the Evaluator computes, with TFMA."""

    slices: tuple[str, ...] = ()
    """Raw features; metrics are computed overall and for each value of each of these."""

    metrics: tuple[MetricConfig, ...] = ()
    """Metrics beside the gate's own. Those that a check of the gate names get TFMA's confidence interval, which costs about
    twenty times the metric."""


class ServingConfig(Block):
    """How the model is served."""

    keep_versions: int = Field(default=3, ge=1)
    """Versions that stay loaded, so that a rollback swaps in memory."""

    prediction_tolerance: float = Field(default=1e-5, gt=0)
    """Largest absolute difference allowed between a prediction computed offline and the one served."""

    allow_incompatible: bool = False
    """Whether a version is rolled out that takes features which the champion does not, or of another type. Clients that do not
    send them would get errors."""


class PipelineConfig(Block):
    """The whole of a pipeline.yaml."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: str
    """Lower-case letters, digits and `_`, starting with a letter: it names the DAG, the model and folders."""

    description: str
    """One line; shown in Airflow and MLflow."""

    owner: str
    """Whom Airflow shows as owner."""

    tags: tuple[str, ...] = ()
    """Airflow tags, in addition to `ct`."""

    label: str
    """The column to predict."""

    seed: int = Field(default=1, ge=0)
    """Seeds Python, numpy and TensorFlow in every node, so that a run can be repeated."""

    refit: bool = False
    """After approval, train once more with the newest span included and serve that model."""

    source: SourceConfig = Field(default_factory=FolderSourceConfig)
    """Where spans come from."""

    trigger: TriggerConfig = Field(default_factory=TriggerConfig)
    """What starts a run."""

    window: WindowConfig
    """Which spans a run trains on."""

    validation: ValidateConfig = Field(default_factory=ValidateConfig, alias="validate")
    """`validate:` what TFDV's findings do to a run. Another name here, because pydantic's models have a method `validate`."""

    nodes: dict[NodeId, NodeConfig] = Field(default_factory=dict)
    """Settings of single nodes, by node id; nodes that are not named use the defaults."""

    train: TrainConfig = Field(default_factory=TrainConfig)
    """What model.py gets."""

    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    """What is measured."""

    gate: GateConfig
    """When a candidate is approved."""

    serving: ServingConfig = Field(default_factory=ServingConfig)
    """How the model is served."""

    monitor: MonitorConfig = Field(default_factory=MonitorConfig)
    """What is watched after a rollout."""

    retention: RetentionConfig = Field(default_factory=RetentionConfig)
    """What `ct gc` leaves of the past."""

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
            raise ValueError("must be lower-case letters, digits and `_`, starting with a letter, at most 63 long")
        return name

    @model_validator(mode="after")
    def _gate_names_what_is_measured(self) -> PipelineConfig:
        measured = [metric.name for metric in self.evaluate.metrics]
        taken = sorted({name for name in measured if name in BUILT_IN or measured.count(name) > 1})
        if taken:
            raise ValueError(f"evaluate.metrics: {', '.join(taken)}: each name once, and none of the gate's own")
        named: list[tuple[str, str, tuple[str, ...]]] = [("gate.metric", self.gate.metric, DECIDING)]
        named += [("gate.checks", check.metric, (*BUILT_IN, *measured)) for check in self.gate.checks]
        for fairness in self.gate.fairness:
            named += [("gate.fairness.metric", fairness.metric, BUILT_IN)]
            named += [("gate.fairness.feature", fairness.feature, self.evaluate.slices)]
        for where, name, known in named:
            if name not in known:
                heading = "of evaluate.slices" if where.endswith("feature") else "metrics"
                raise ValueError(f"{where}: unknown `{name}`; {_nearest(name, known, heading)}")
        compared = {check.metric for check in self.gate.checks if check.min_improvement is not None}
        unknown = [metric.name for metric in self.evaluate.metrics if metric.name in compared and metric.better is None]
        if unknown:
            raise ValueError(
                f"evaluate.metrics: {', '.join(unknown)}: `min_improvement` in gate.checks compares with the champion, and "
                "nothing says which of two values is better; write `better: higher` or `better: lower` beside `class_name`"
            )
        if self.gate.slices.max_drop != SlicesConfig().max_drop and not self.evaluate.slices:
            raise ValueError("gate.slices: there are none; name their features in `evaluate.slices`")
        return self

    @model_validator(mode="after")
    def _waits_within_the_window(self) -> PipelineConfig:
        gate, spans = self.gate, self.window.max_spans
        if gate.inconclusive == "wait" and spans is not None and spans <= gate.wait_spans:
            raise ValueError(
                f"gate.wait_spans: {gate.wait_spans} spans to judge on leave none of window.max_spans: {spans} to learn from; "
                f"allow at least {gate.wait_spans + 1}, or wait for fewer"
            )
        return self

    def node(self, node_id: str) -> NodeConfig:
        """The settings of one node."""
        return {str(key): value for key, value in self.nodes.items()}.get(node_id, NodeConfig())


def load_pipeline_config(folder: Path) -> PipelineConfig:
    """Read and check `<folder>/pipeline.yaml`, and that the folder's other files are there.

    Raises:
        ConfigError: a file is missing, the YAML does not parse, or a key is unknown, missing or of the wrong type. The
            message lists every problem, one a line.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder. `ct deploy` takes a pipeline's folder.", path=str(folder))
    missing = [name for name in PIPELINE_FILES if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"{folder} lacks {', '.join(missing)}. A pipeline folder holds {', '.join(PIPELINE_FILES)}. "
            "Nothing was deployed.",
            path=str(folder),
            missing=missing,
        )
    return parse_pipeline_config(_read_yaml(folder / "pipeline.yaml"), where=str(folder / "pipeline.yaml"))


def parse_pipeline_config(values: object, *, where: str) -> PipelineConfig:
    """Check values that came out of a YAML file.

    Raises:
        ConfigError: with one line a problem.
    """
    if not isinstance(values, dict):
        raise ConfigError(
            f"{where} must hold keys and values, such as `name: flights`. Nothing was deployed.", path=where
        )
    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors()]
        raise ConfigError(
            "\n".join([f"{where} is not valid. Nothing was deployed.", *(f"  - {line}" for line in problems)]),
            path=where,
            problems=problems,
        ) from error


def _read_yaml(path: Path) -> object:
    import yaml  # noqa: PLC0415  the CLI's --help must not wait for it

    try:
        values: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} does not parse: {error}. Nothing was deployed.", path=str(path)) from error
    return values


def _explain(problem: ErrorDetails) -> str:
    """One problem in words: where it is, what is wrong, and the nearest right key."""
    parts = [str(part) for part in problem["loc"]]
    location = ".".join(part for part in _as_written(parts) if part != "[key]")
    if problem["type"] == "extra_forbidden":
        return f"{location}: unknown key; {_nearest(parts[-1], sorted(_keys_at(parts[:-1])), 'known keys')}"
    if problem["type"] == "union_tag_invalid":
        kinds = [str(kind) for kind in _kinds_in(_block_at(parts))]
        return f"{location}.kind: unknown kind; {_nearest(problem['ctx']['tag'], kinds, 'kinds')}"
    if problem["type"] == "literal_error" and "[key]" in parts:
        return f"{location}: unknown node; {_nearest(str(problem['input']), NODE_IDS, 'nodes')}"
    if problem["type"] == "missing":
        return f"{location}: required, and missing"
    message = problem["msg"].removeprefix("Value error, ")
    if not location or isinstance(problem["input"], dict):
        return f"{location}: {message}" if location else message
    return f"{location}: {message} (got {CREDENTIALS.sub('//***@', repr(problem['input']))})"


def _nearest(word: str, known: Sequence[str], heading: str) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else f"{heading}: {', '.join(known)}"


def _as_written(parts: list[str]) -> list[str]:
    """A path as it stands in YAML: without the kind that pydantic adds where a block is one of several kinds."""
    return [part for position, part in enumerate(parts) if part not in _kinds_in(_block_at(parts[:position]))]


def _keys_at(parents: list[str]) -> set[str]:
    """The keys that the block at this path knows."""
    return set(_fields(_block_at(parents)))


def _block_at(parents: list[str]) -> Any:
    """The Block class at this path, or the union of several kinds of it."""
    block: Any = PipelineConfig
    for parent in parents:
        kinds = _kinds_in(block)
        if kinds:
            block = kinds.get(parent)
        else:
            field = _fields(block).get(parent)
            block = _block_in(field.annotation) if field else NodeConfig
    return block


def _fields(block: Any) -> dict[str, FieldInfo]:
    """A block's fields by the names that stand in YAML."""
    return {field.alias or name: field for name, field in block.model_fields.items()} if _is_block(block) else {}


def _kinds_in(annotation: object) -> dict[str, Any]:
    """Kind -> Block class of a union whose members carry a tag; empty for everything else."""
    members = get_args(annotation) if get_origin(annotation) is Union else ()
    tagged = [get_args(member) for member in members if get_origin(member) is Annotated]
    return {tag.tag: block for block, *rest in tagged for tag in rest if isinstance(tag, Tag)}


def _block_in(annotation: object) -> Any:
    """The Block class inside an annotation such as `dict[NodeId, NodeConfig]`."""
    if get_origin(annotation) in (Annotated, Union, UnionType, dict) and not _kinds_in(annotation):
        return next((arg for arg in get_args(annotation) if _is_block(arg)), annotation)
    return annotation


def _is_block(candidate: object) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, Block)
