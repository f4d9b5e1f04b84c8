"""pipeline.yaml: what a pipeline is, as frozen values, and the one function that reads it.

Every key has a default that says why, or is required. A key that does not exist is an error that names the nearest one.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ct.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

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
    "Rollout",
)
CRON_FIELDS = 5

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
    "Rollout",
]


class Block(BaseModel):
    """A block of pipeline.yaml: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SourceConfig(Block):
    """Where spans come from."""

    kind: Literal["folder"] = "folder"
    """`folder`: every file that matches `pattern` in a local or mounted folder is a span."""

    path: str | None = None
    """The folder; relative paths start at CT_HOME. Default: `landing/<pipeline name>` under CT_HOME."""

    pattern: str = "*.parquet"
    """Glob of the span files. The ending says the format: `.parquet` or `.csv`."""

    max_bad_rows: int = Field(default=0, ge=0)
    """Rows of a CSV span that may be quarantined before the whole span is refused. 0: the first bad row refuses the span."""

    @field_validator("pattern")
    @classmethod
    def _known_format(cls, pattern: str) -> str:
        if not pattern.endswith((".parquet", ".csv")):
            raise ValueError("must end in .parquet or .csv, the two formats that ct reads")
        return pattern


class TriggerConfig(Block):
    """What starts a run. At least one of `on_data` and `schedule`."""

    on_data: bool = True
    """Start a run when a span lands in the source."""

    poll_interval_s: float = Field(default=1.0, gt=0)
    """Seconds between two looks at the source. One look lists a folder, so 1 s costs next to nothing."""

    settle_s: float = Field(default=2.0, ge=0)
    """Seconds a file must keep its size and time before it counts as written. Writers that rename into place may use 0."""

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
        if not self.on_data and self.schedule is None:
            raise ValueError("nothing would ever start a run: set `on_data: true`, a `schedule`, or both")
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


class EvaluateConfig(Block):
    """What the Evaluator computes, with TFMA."""

    slices: tuple[str, ...] = ()
    """Raw features; metrics are computed overall and for each value of each of these."""


class GateConfig(Block):
    """When a candidate is approved: `metric` at least `threshold`, and above the champion's on the same rows."""

    metric: Literal["auc", "binary_accuracy"] = "auc"
    """The metric that both rules look at; higher is better."""

    threshold: float
    """The least value a candidate may have. Required: a gate without a threshold approves anything."""

    min_improvement: float = 0.0
    """The candidate's value must exceed the champion's by more than this."""


class ServingConfig(Block):
    """How the model is served."""

    keep_versions: int = Field(default=3, ge=1)
    """Versions that stay loaded, so that a rollback swaps in memory."""

    prediction_tolerance: float = Field(default=1e-5, gt=0)
    """Largest absolute difference allowed between a prediction computed offline and the one served."""


class PipelineConfig(Block):
    """The whole of a pipeline.yaml."""

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

    source: SourceConfig = Field(default_factory=SourceConfig)
    """Where spans come from."""

    trigger: TriggerConfig = Field(default_factory=TriggerConfig)
    """What starts a run."""

    window: WindowConfig
    """Which spans a run trains on."""

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

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
            raise ValueError("must be lower-case letters, digits and `_`, starting with a letter, at most 63 long")
        return name

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
    location = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if problem["type"] == "extra_forbidden":
        *parents, key = [str(part) for part in problem["loc"]]
        known = sorted(_keys_at(parents))
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
        return f"{location}: unknown key; {hint}"
    if problem["type"] == "literal_error" and "[key]" in problem["loc"]:
        key = str(problem["input"])
        near = difflib.get_close_matches(key, NODE_IDS, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"nodes: {', '.join(NODE_IDS)}"
        return f"{location}: unknown node; {hint}"
    if problem["type"] == "missing":
        return f"{location}: required, and missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{location or 'the file'}: {message} (got {problem['input']!r})" if location else message


def _keys_at(parents: list[str]) -> set[str]:
    """The keys that the block at this path knows."""
    block: Any = PipelineConfig
    for parent in parents:
        field = block.model_fields.get(parent) if _is_block(block) else None
        block = _block_in(field.annotation) if field else NodeConfig
    return set(block.model_fields) if _is_block(block) else set()


def _block_in(annotation: object) -> Any:
    """The Block class inside an annotation such as `dict[NodeId, NodeConfig]`."""
    if get_origin(annotation) in (Annotated, Union, dict):
        return next((arg for arg in get_args(annotation) if _is_block(arg)), annotation)
    return annotation


def _is_block(candidate: object) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, Block)
