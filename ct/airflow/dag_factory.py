"""Deployed specs become DAGs: one DAG a pipeline, one task a node, a task group a stage; a question where the policy asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import (
    DAG,
    Asset,
    AssetAny,
    AssetOrTimeSchedule,
    AssetWatcher,
    CronTriggerTimetable,
    TaskGroup,
    TriggerRule,
)
from pydantic import ValidationError

from ct.airflow.api import APPROVAL
from ct.airflow.claim import CLAIM, ClaimSpans
from ct.airflow.finish import FINISH, FinishRun
from ct.airflow.node import NodeOperator
from ct.airflow.watcher import SpanTrigger
from ct.config import PipelineConfig
from ct.contracts import Outcome, Stage
from ct.deploy import deployed_pipelines, deployed_spec
from ct.errors import CTError
from ct.verdict_page.record import GATE

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.triggers.base import BaseEventTrigger

    from ct.config import QueueConfig
    from ct.contracts import DeployedSpec, NodeSpec
    from ct.gate_config import GateConfig
    from ct.home import Home

LONGEST_RETRY_DELAY = timedelta(minutes=10)
QUEUE_POLL_S = 0.5
OWN_RETRIES, OWN_RETRY_DELAY, OWN_TIMEOUT = 3, timedelta(seconds=3), timedelta(minutes=5)
"""For `claim` and `finish`: they write a few rows and talk to MLflow."""


@dataclass(frozen=True)
class Built:
    """What the deployed specs gave."""

    dags: tuple[DAG, ...]
    broken: dict[str, str]
    """Pipeline -> why its spec gives no DAG."""


def build_dags(home: Home, only: str | None = None) -> Built:
    """The DAGs of all deployed pipelines, or of one. The broken spec of one does not stop the others."""
    dags, broken = [], {}
    for pipeline in deployed_pipelines(home):
        if only is not None and pipeline != only:
            continue
        try:
            dags.append(build_dag(home, deployed_spec(home, pipeline)))
        except (CTError, ValidationError, ValueError, KeyError, OSError) as error:
            broken[pipeline] = f'The spec of pipeline "{pipeline}" gives no DAG: {error}. Run `ct deploy` for it again.'
    return Built(tuple(dags), broken)


def build_dag(home: Home, spec: DeployedSpec) -> DAG:
    """One pipeline's DAG: claim, the nodes, finish.

    Raises:
        ValueError: the spec is not one that this version of ct understands.
    """
    config = PipelineConfig.model_validate(spec.config)
    with DAG(
        dag_id=spec.pipeline,
        description=config.description,
        doc_md=spec.readme,
        tags={"ct", *config.tags},
        schedule=_schedule(home, config),
        start_date=None,  # with a date in the past, Airflow would run the last missed schedule as soon as it is deployed
        catchup=False,
        max_active_runs=1,
        default_args={"owner": config.owner},
    ) as dag:
        _add_tasks(spec, config)
    return dag


def _add_tasks(spec: DeployedSpec, config: PipelineConfig) -> None:
    own = {"retries": OWN_RETRIES, "retry_delay": OWN_RETRY_DELAY}
    fetching = timedelta(seconds=config.trigger.fetch_timeout_s)
    claim = ClaimSpans(task_id=CLAIM, pipeline=spec.pipeline, execution_timeout=fetching, **own)
    groups = {
        stage: TaskGroup(stage.value, prefix_group_id=False)
        for stage in Stage
        if any(node.stage is stage for node in spec.nodes)
    }
    asked = asked_about(config.gate)
    behind = _behind_the_gate(spec)
    tasks: dict[str, BaseOperator] = {
        node.id: _node_task(node, config, groups[node.stage], asked if node.id in behind else ()) for node in spec.nodes
    }
    order = list(tasks)
    if asked:
        tasks[APPROVAL] = _question(config, asked, groups[Stage.EVALUATE])
        tasks[APPROVAL].set_upstream(tasks[GATE])
        order.insert(order.index(GATE) + 1, APPROVAL)
    finish = FinishRun(
        task_id=FINISH, pipeline=spec.pipeline, node_ids=tuple(order), execution_timeout=OWN_TIMEOUT, **own
    )
    needed = {upstream for node in spec.nodes for upstream in node.upstream}
    for node in spec.nodes:  # one call a node: wiring is what parsing spends its time on
        upstream = [*node.upstream, APPROVAL] if asked and GATE in node.upstream else node.upstream
        tasks[node.id].set_upstream([tasks[name] for name in upstream] or [claim])
    finish.set_upstream([tasks[node.id] for node in spec.nodes if node.id not in needed])
    # So `finish` alone decides whether the run succeeded: Airflow would call a run that a person failed a success, once
    # its teardown is done.
    finish.as_teardown(setups=claim, on_failure_fail_dagrun=True)


def _behind_the_gate(spec: DeployedSpec) -> set[str]:
    """The nodes that need the gate, directly or not; nodes come in topological order."""
    behind: set[str] = set()
    for node in spec.nodes:
        if behind.union({GATE}).intersection(node.upstream):
            behind.add(node.id)
    return behind


def asked_about(gate: GateConfig) -> tuple[Outcome, ...]:
    """The outcomes of the gate that count only with a person's answer. A refusal is none: `ct rollout --force` is for that."""
    approved = (Outcome.APPROVED,) if gate.approval.mode == "manual" else ()
    return (*approved, Outcome.INCONCLUSIVE) if gate.inconclusive == "ask" else approved


def _question(config: PipelineConfig, asked: tuple[Outcome, ...], group: TaskGroup) -> BaseOperator:
    # It imports a provider, which only pipelines that ask a person shall pay for at each parsing.
    from ct.airflow.approval import AskForApproval  # noqa: PLC0415

    approval = config.gate.approval
    return AskForApproval(
        task_id=APPROVAL,
        task_group=group,
        pipeline=config.name,
        asked=asked,
        timeout=timedelta(seconds=approval.timeout_s),
        approves_by_default=approval.default == "approve",
        retries=OWN_RETRIES,
        retry_delay=OWN_RETRY_DELAY,
    )


def _node_task(node: NodeSpec, config: PipelineConfig, group: TaskGroup, asked: tuple[Outcome, ...]) -> NodeOperator:
    settings = config.node(node.id)
    rule = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS if node.runs_when_upstream_skipped else TriggerRule.ALL_SUCCESS
    return NodeOperator(
        task_id=node.id,
        task_group=group,
        pipeline=config.name,
        after_approval=node.after_approval,
        asked=asked,
        trigger_rule=rule,
        retries=settings.retries,
        retry_delay=timedelta(seconds=settings.retry_delay_s),
        retry_exponential_backoff=2.0,
        max_retry_delay=LONGEST_RETRY_DELAY,
        execution_timeout=timedelta(seconds=settings.timeout_s),
    )


def _schedule(home: Home, config: PipelineConfig) -> Any:
    """Landing spans, other DAGs' assets, a cron expression, or whichever of them comes first."""
    trigger = config.trigger
    timetable = CronTriggerTimetable(trigger.schedule, timezone=trigger.timezone) if trigger.schedule else None
    assets = [*([_spans(home, config)] if trigger.on_data else []), *(Asset(uri=uri) for uri in trigger.assets)]
    if not assets:
        return timetable
    any_of = AssetAny(*assets)
    return any_of if timetable is None else AssetOrTimeSchedule(timetable=timetable, assets=any_of)


def _spans(home: Home, config: PipelineConfig) -> Asset:
    """The pipeline's spans, watched by the triggerer. Two pipelines may watch one folder: each has its own asset."""
    name = f"{config.name}_spans"
    watchers = [AssetWatcher(name=name, trigger=SpanTrigger(home=str(home.root), pipeline=config.name))]
    if config.trigger.queue is not None:
        watchers.append(AssetWatcher(name=f"{config.name}_queue", trigger=_queue(config.trigger.queue)))
    return Asset(name, uri=f"x-ct://spans/{config.name}", watchers=watchers)


def _queue(queue: QueueConfig) -> BaseEventTrigger:
    """Airflow's own trigger, which ends with each message and is started anew."""
    # Importing it looks through all providers, which only pipelines with a queue shall pay for at each parsing.
    from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger  # noqa: PLC0415

    if queue.kind == "kafka":
        return MessageQueueTrigger(
            scheme="kafka", topics=[queue.topic], kafka_config_id=queue.connection, poll_interval=QUEUE_POLL_S
        )
    return MessageQueueTrigger(
        scheme="redis+pubsub", channels=[queue.topic], redis_conn_id=queue.connection, poll_interval=QUEUE_POLL_S
    )
