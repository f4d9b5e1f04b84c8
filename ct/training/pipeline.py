"""The nodes of a ct pipeline and how they are wired. Node ids are those of ct.config.NODE_IDS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfx import v1 as tfx
from tfx.components.trainer.executor import GenericExecutor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import trainer_pb2, transform_pb2

from ct.contracts import NodeSpec, Stage
from ct.training.checks import check_anomaly_types
from ct.training.evaluation import Champion, Gate, PairedEvaluator, eval_config
from ct.training.example_gen import SpanExampleGen
from ct.training.parameters import REQUEST_PATH, SCHEMA_FILE
from ct.training.prove import Prove
from ct.training.register import Register
from ct.training.rollout_node import Rollout
from ct.training.statistics import OPTIONS
from ct.training.transform import RepeatableTransform
from ct.training.validator import DataValidator

if TYPE_CHECKING:
    from tfx.dsl.components.base.base_node import BaseNode

    from ct.config import PipelineConfig

BEAM_ARGS = [
    "--runner=FnApiRunner",  # by name, because Beam's default first tries one that it would download
    "--direct_running_mode=in_memory",
    "--direct_num_workers=1",  # a node is one process; the machine's cores are shared by the nodes that run at once
    "--sdk_container_image=none",  # else TFX packs itself into an sdist for remote workers: 3 s a node, and there are none
]

STAGES = {
    "ExampleGen": Stage.INGEST,
    "StatisticsGen": Stage.VALIDATE,
    "Schema": Stage.VALIDATE,
    "ExampleValidator": Stage.VALIDATE,
    "Transform": Stage.TRAIN,
    "Trainer": Stage.TRAIN,
    "Champion": Stage.EVALUATE,
    "Evaluator": Stage.EVALUATE,
    "Gate": Stage.EVALUATE,
    "Refit": Stage.RELEASE,
    "Register": Stage.RELEASE,
    "Prove": Stage.RELEASE,
    "Rollout": Stage.RELEASE,
}
AFTER_APPROVAL = ("Refit", "Prove", "Rollout")


@dataclass(frozen=True)
class Built:
    """A TFX pipeline, and its nodes as Airflow sees them."""

    pipeline: tfx.dsl.Pipeline
    nodes: tuple[NodeSpec, ...]


def build(config: PipelineConfig) -> Built:
    """Wire the nodes of one pipeline. Its code is the package `<name>`, which is imported only when a node runs it.

    Raises:
        ConfigError: `validate:` names a type of anomaly that there is not.
    """
    check_anomaly_types(config)
    pipeline = tfx.dsl.Pipeline(
        pipeline_name=config.name,
        components=_components(config),
        enable_cache=False,  # a span trains once, so equal inputs are rare; encoded spans are kept by ExampleGen
        beam_pipeline_args=BEAM_ARGS,
    )
    return Built(pipeline, tuple(_describe(node) for node in pipeline.components))


def _components(config: PipelineConfig) -> list[BaseNode]:
    request_path: Any = RuntimeParameter(name=REQUEST_PATH, ptype=str)
    example_gen = SpanExampleGen(request_path=request_path).with_id("ExampleGen")
    examples = example_gen.outputs["examples"]
    statistics_gen = tfx.components.StatisticsGen(examples=examples, stats_options=OPTIONS).with_id("StatisticsGen")
    schema_file: Any = RuntimeParameter(name=SCHEMA_FILE, ptype=str)
    schema_gen = tfx.components.ImportSchemaGen(schema_file=schema_file).with_id("Schema")
    schema = schema_gen.outputs["schema"]
    validator = DataValidator(
        request_path=request_path, statistics=statistics_gen.outputs["statistics"], schema=schema
    ).with_id("ExampleValidator")
    transform = RepeatableTransform(
        examples=examples,
        schema=schema,
        preprocessing_fn=f"{config.name}.features.preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(analyze=["train"], transform=["train", "eval"]),
        disable_statistics=True,  # nothing reads statistics of transformed features
    ).with_id("Transform")
    transform.add_upstream_node(validator)  # no training on data that breaks the schema
    trainer = _trainer(config, transform, schema, ["train"]).with_id("Trainer")
    champion = Champion(request_path=request_path).with_id("Champion")
    champion.add_upstream_node(trainer)  # what serves when the candidate is judged, not when the run began
    evaluator = PairedEvaluator(
        examples=examples,
        model=trainer.outputs["model"],
        baseline_model=champion.outputs["champion"],
        eval_config=eval_config(config),
        example_splits=["eval"],
        schema=schema,
    ).with_id("Evaluator")
    gate = Gate(
        request_path=request_path,
        examples=examples,
        model=trainer.outputs["model"],
        champion=champion.outputs["champion"],
        evaluation=evaluator.outputs["evaluation"],
    ).with_id("Gate")
    refit = [_trainer(config, transform, schema, ["train", "eval"]).with_id("Refit")] if config.refit else []
    for node in refit:
        node.add_upstream_node(gate)
    register = Register(
        request_path=request_path,
        model=trainer.outputs["model"],
        examples=examples,
        statistics=statistics_gen.outputs["statistics"],
        anomalies=validator.outputs["anomalies"],
        schema=schema,
        evaluation=evaluator.outputs["evaluation"],
        verdict=gate.outputs["verdict"],
        **({"refit_model": refit[0].outputs["model"]} if refit else {}),
    ).with_id("Register")
    registration = register.outputs["registration"]
    prove = Prove(request_path=request_path, registration=registration, examples=examples).with_id("Prove")
    rollout = Rollout(request_path=request_path, registration=registration).with_id("Rollout")
    rollout.add_upstream_node(prove)  # nothing serves that was not proven
    return [
        *(example_gen, statistics_gen, schema_gen, validator, transform, trainer, champion, evaluator, gate),
        *(*refit, register, prove, rollout),
    ]


def _trainer(config: PipelineConfig, transform: BaseNode, schema: Any, splits: list[str]) -> BaseNode:
    return tfx.components.Trainer(
        run_fn=f"{config.name}.model.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema,
        train_args=trainer_pb2.TrainArgs(splits=splits),
        eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
        custom_config={**config.train.model_dump(mode="json"), "seed": config.seed, "label": config.label},
        custom_executor_spec=ExecutorClassSpec(GenericExecutor),
    )


def _describe(node: BaseNode) -> NodeSpec:
    return NodeSpec(
        id=node.id,
        stage=STAGES[node.id],
        upstream=tuple(sorted(upstream.id for upstream in node.upstream_nodes)),
        after_approval=node.id in AFTER_APPROVAL,
        runs_when_upstream_skipped=node.id == "Register",
    )
