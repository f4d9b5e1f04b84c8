"""The DAGs that deployed specs become. No server and no database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import AssetAny, AssetOrTimeSchedule, CronTriggerTimetable

from ct.airflow.dag_factory import build_dags
from ct.airflow.environment import DAGS_FOLDER
from ct.config import PipelineConfig
from ct.contracts import DeployedSpec, NodeSpec, Stage
from ct.home import Home, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import DAG

WIRING: tuple[tuple[str, Stage, tuple[str, ...]], ...] = (
    ("ExampleGen", Stage.INGEST, ()),
    ("StatisticsGen", Stage.VALIDATE, ("ExampleGen",)),
    ("Schema", Stage.VALIDATE, ()),
    ("ExampleValidator", Stage.VALIDATE, ("Schema", "StatisticsGen")),
    ("Transform", Stage.TRAIN, ("ExampleGen", "ExampleValidator", "Schema")),
    ("Trainer", Stage.TRAIN, ("Schema", "Transform")),
    ("Champion", Stage.EVALUATE, ("Trainer",)),
    ("Evaluator", Stage.EVALUATE, ("Champion", "ExampleGen", "Schema", "Trainer")),
    ("Gate", Stage.EVALUATE, ("Champion", "Evaluator")),
    ("Refit", Stage.RELEASE, ("Gate", "Schema", "Transform")),
    ("Register", Stage.RELEASE, ("Evaluator", "ExampleGen", "ExampleValidator", "Gate", "Refit", "Schema", "Trainer")),
    ("Rollout", Stage.RELEASE, ("Register",)),
)
NODES = tuple(
    NodeSpec(
        id=node_id,
        stage=stage,
        upstream=upstream,
        after_approval=node_id in ("Refit", "Rollout"),
        runs_when_upstream_skipped=node_id == "Register",
    )
    for node_id, stage, upstream in WIRING
)
HEAVY = ("tfx", "tensorflow", "apache_beam", "mlflow", "pandas", "pyarrow")


def deploy(home: Home, name: str, **more: Any) -> None:
    """Store a spec as `ct deploy` does."""
    config = PipelineConfig.model_validate(
        {
            "name": name,
            "description": "late flights",
            "owner": "data-science",
            "label": "y",
            "tags": ["tiny"],
            "window": {"time_column": "t"},
            "gate": {"threshold": 0.5},
            **more,
        }
    )
    spec = DeployedSpec(
        spec_hash="0" * 16,
        pipeline=name,
        config=config.model_dump(mode="json"),
        nodes=NODES,
        readme="# How it works",
        deployed_at=datetime.now(timezone.utc),
        code_commit=None,
        requirement_hashes={},
    )
    write_atomically(home.deployed / name / "specs" / spec.spec_hash / "spec.json", spec.model_dump_json())
    write_atomically(home.deployed / name / "current.json", json.dumps({"spec_hash": spec.spec_hash}))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home without pipelines."""
    return Home(tmp_path).create()


def the_dag(home: Home) -> DAG:
    """The only DAG there is."""
    built = build_dags(home)
    assert built.broken == {}
    (dag,) = built.dags
    return dag


def test_each_node_is_a_task_in_the_group_of_its_stage(home: Home) -> None:
    """Task ids are node ids, without the group's name in front; claim comes first and finish last."""
    deploy(home, "flights")
    dag = the_dag(home)
    assert set(dag.task_ids) == {node_id for node_id, _, _ in WIRING} | {"claim", "finish"}
    for node_id, stage, _ in WIRING:
        group = dag.get_task(node_id).task_group
        assert group is not None
        assert group.group_id == stage.value
    assert dag.get_task("Gate").upstream_task_ids == {"Champion", "Evaluator"}
    assert dag.get_task("claim").downstream_task_ids == {"ExampleGen", "Schema", "finish"}
    assert dag.get_task("finish").upstream_task_ids == {"Rollout", "claim"}


def test_airflow_users_find_what_they_expect(home: Home) -> None:
    """Owner, tags, description and README; retries with backoff, and timeouts, as pipeline.yaml says."""
    trainer_config = {"retries": 5, "retry_delay_s": 7, "timeout_s": 99}
    deploy(home, "flights", nodes={"Trainer": trainer_config}, trigger={"fetch_timeout_s": 7200})
    dag = the_dag(home)
    assert (dag.owner, dag.tags, dag.description) == ("data-science", {"ct", "tiny"}, "late flights")
    assert dag.doc_md == "# How it works"
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    trainer = dag.get_task("Trainer")
    assert (trainer.retries, trainer.retry_delay) == (5, timedelta(seconds=7))
    assert trainer.execution_timeout == timedelta(seconds=99)
    assert trainer.retry_exponential_backoff == 2.0
    assert dag.get_task("claim").execution_timeout == timedelta(hours=2)
    assert dag.get_task("Gate").retries == 2


def test_register_runs_when_refit_is_skipped_and_rollout_is_last(home: Home) -> None:
    """A refused candidate is recorded all the same; a run with nothing to claim skips everything."""
    deploy(home, "flights")
    dag = the_dag(home)
    assert dag.get_task("Register").trigger_rule == "none_failed_min_one_success"
    assert dag.get_task("Refit").trigger_rule == "all_success"


def test_finish_runs_whatever_happened_and_its_state_is_the_runs(home: Home) -> None:
    """It fails when the run failed, and Airflow must not leave it out as it does with other teardowns."""
    deploy(home, "flights")
    dag = the_dag(home)
    finish = dag.get_task("finish")
    assert finish.is_teardown
    assert finish.on_failure_fail_dagrun
    assert dag.get_task("claim").is_setup


def test_a_pipeline_may_be_started_by_data_by_a_schedule_or_by_both(home: Home) -> None:
    """Landing spans and cron are independent; the cron expression is read in the pipeline's zone."""
    deploy(home, "both", trigger={"schedule": "0 9 * * FRI", "timezone": "America/New_York"})
    deploy(home, "cron", trigger={"schedule": "0 9 * * FRI", "on_data": False})
    deploy(home, "data")
    dags = {dag.dag_id: dag for dag in build_dags(home).dags}
    both = dags["both"].timetable
    assert isinstance(both, AssetOrTimeSchedule)
    assert both.timetable == CronTriggerTimetable("0 9 * * FRI", timezone="America/New_York")
    assert isinstance(dags["cron"].timetable, CronTriggerTimetable)
    (asset,) = dags["data"].timetable.asset_condition.objects
    (watcher,) = asset.watchers
    assert watcher.trigger.serialize()[1] == {"home": str(home.root), "pipeline": "data"}


def test_other_dags_assets_start_runs_too(home: Home) -> None:
    """Any of them, beside landing spans, or instead of them."""
    deploy(home, "also", trigger={"assets": ["s3://lake/flights", "x-lake://weather"]})
    deploy(home, "only", trigger={"assets": ["s3://lake/flights"], "on_data": False, "schedule": "0 9 * * *"})
    dags = {dag.dag_id: dag for dag in build_dags(home).dags}
    condition = dags["also"].timetable.asset_condition
    assert isinstance(condition, AssetAny)
    assert [asset.uri for asset in condition.objects] == ["x-ct://spans/also", "s3://lake/flights", "x-lake://weather"]
    only = dags["only"].timetable
    assert isinstance(only, AssetOrTimeSchedule)
    assert [asset.uri for asset in only.asset_condition.objects] == ["s3://lake/flights"]


@pytest.mark.parametrize(
    ("kind", "trigger", "arguments"),
    [
        (
            "kafka",
            "airflow.providers.apache.kafka.triggers.await_message.AwaitMessageTrigger",
            {"topics": ["landed"], "kafka_config_id": "lake"},
        ),
        (
            "redis",
            "airflow.providers.redis.triggers.redis_await_message.AwaitMessageTrigger",
            {"channels": ["landed"], "redis_conn_id": "lake"},
        ),
    ],
)
def test_a_queue_is_watched_by_airflows_own_trigger(
    home: Home, kind: str, trigger: str, arguments: dict[str, Any]
) -> None:
    """Beside the look at the source, on the same asset: a message is an update of it."""
    deploy(home, "queued", trigger={"queue": {"kind": kind, "connection": "lake", "topic": "landed"}})
    (asset,) = the_dag(home).timetable.asset_condition.objects
    _, queue = asset.watchers
    path, given = queue.trigger.serialize()
    assert path == trigger
    assert given.items() >= arguments.items()


def test_a_scheduled_pipeline_can_be_backfilled(home: Home) -> None:
    """Airflow refuses backfills of schedules that are not periodic; landing data in addition must not make it so."""
    from airflow.serialization.serialized_objects import DagSerialization  # noqa: PLC0415

    deploy(home, "both", trigger={"schedule": "0 9 * * FRI"})
    restored = DagSerialization.from_dict(DagSerialization.to_dict(the_dag(home)))
    assert restored.timetable.periodic
    begin, end = datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2024, 1, 31, tzinfo=timezone.utc)
    assert len(list(restored.iter_dagrun_infos_between(begin, end))) == 4


def test_a_schedule_does_not_run_as_soon_as_it_is_deployed(home: Home) -> None:
    """The first scheduled run is the next one, not the last one that was missed."""
    from airflow.serialization.serialized_objects import DagSerialization  # noqa: PLC0415

    deploy(home, "cron", trigger={"schedule": "0 9 * * FRI", "on_data": False})
    restored = DagSerialization.from_dict(DagSerialization.to_dict(the_dag(home)))
    first = restored.next_dagrun_info(last_automated_run_info=None)
    assert first is not None
    assert first.run_after > datetime.now(timezone.utc)


def test_a_broken_spec_names_its_pipeline_and_leaves_the_others(home: Home) -> None:
    """Each broken spec is a reason of its own."""
    deploy(home, "good")
    for name in ("torn", "wrong"):
        deploy(home, name)
    path = next((home.deployed / "torn").glob("specs/*/spec.json"))
    path.write_text(path.read_text()[:100])
    next((home.deployed / "wrong").glob("specs/*/spec.json")).write_text('{"pipeline": "wrong"}')
    built = build_dags(home)
    assert [dag.dag_id for dag in built.dags] == ["good"]
    assert set(built.broken) == {"torn", "wrong"}
    assert '"torn"' in built.broken["torn"]


@dataclass(frozen=True)
class Parsed:
    """What a process found that parsed the DAG file as Airflow does."""

    dags: list[str]
    file_errors: dict[str, str]
    other_errors: dict[str, str]
    heavy_modules: list[str]


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Parsed:
    """The DAG file, parsed in a process of its own: one good pipeline, and one with a broken spec."""
    home = Home(tmp_path_factory.mktemp("home")).create()
    deploy(home, "good")
    deploy(home, "bad")
    next((home.deployed / "bad").glob("specs/*/spec.json")).write_text("{}")
    script = f"""
import json, runpy, sys
from pathlib import Path
import airflow.sdk
folder = Path({str(DAGS_FOLDER)!r})
runpy.run_path(str(folder / "ct_pipelines.py"))
heavy = [name for name in {HEAVY!r} if name in sys.modules]
import structlog
from airflow.dag_processing.dagbag import DagBag
from airflow.dag_processing.processor import _serialize_dags
bag = DagBag(folder, bundle_path=folder, bundle_name="dags")
dags, errors = _serialize_dags(bag, structlog.get_logger())
print(json.dumps([[dag.dag_id for dag in dags], bag.import_errors, errors, heavy]))
"""
    environment = {**os.environ, "CT_HOME": str(home.root), "AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return Parsed(*json.loads(done.stdout.splitlines()[-1]))


def test_airflow_shows_a_broken_spec_as_an_import_error_of_its_own(parsed: Parsed) -> None:
    """Not under the DAG file's path: Airflow would take every other pipeline's DAG for stale."""
    assert parsed.dags == ["good"]
    assert parsed.file_errors == {}
    assert list(parsed.other_errors) == ["deployed/bad"]
    assert 'pipeline "bad"' in parsed.other_errors["deployed/bad"]


def test_parsing_imports_nothing_of_the_other_planes(parsed: Parsed) -> None:
    """No TFX, no MLflow, no pandas: a parse starts a fresh process every few seconds."""
    assert parsed.heavy_modules == []


def test_a_task_process_builds_only_its_own_dag(home: Home) -> None:
    """Every task parses the DAG file; it must not pay for the other pipelines."""
    deploy(home, "flights")
    deploy(home, "taxi")
    assert [dag.dag_id for dag in build_dags(home, only="taxi").dags] == ["taxi"]


def test_twenty_pipelines_parse_in_a_tenth_of_a_second(home: Home) -> None:
    """The best of some tries, so that a busy machine does not fail it; airflow's own import not counted."""
    for number in range(20):
        deploy(home, f"p{number:02}", trigger={"schedule": "0 9 * * FRI"})
    seconds = []
    for _ in range(7):
        began = time.process_time()
        assert len(build_dags(home).dags) == 20
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.1, seconds
