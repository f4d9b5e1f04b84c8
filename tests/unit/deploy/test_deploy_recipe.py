"""What makes a pipeline's model the same or another, and with it the fingerprint that the quarantine goes by."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ct.config import PipelineConfig, load_pipeline_config
from ct.contracts import DeployedSpec, RunRequest, Span, TriggerKind, VersionManifest
from ct.deploy import NOT_IN_RECIPE, recipe_hash
from ct.source_config import (
    CassandraSourceConfig,
    FolderSourceConfig,
    KafkaSourceConfig,
    PostgresSourceConfig,
    RedisSourceConfig,
    S3SourceConfig,
)
from tests.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable

FLIGHTS = Path(__file__).resolve().parents[3] / "pipelines" / "flights"
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
SOURCES = (
    FolderSourceConfig,
    S3SourceConfig,
    PostgresSourceConfig,
    CassandraSourceConfig,
    KafkaSourceConfig,
    RedisSourceConfig,
)
SPAN = Span(
    pipeline="flights",
    name="2013-01",
    revision=1,
    sha256="a" * 64,
    uri="/in",
    format="csv",
    size_bytes=1,
    seen_at=NOW,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the flights pipeline that a test may change."""
    return shutil.copytree(FLIGHTS, tmp_path / "flights", ignore=shutil.ignore_patterns("__pycache__"))


def recipe(folder: Path) -> str:
    """Of what stands in the folder now."""
    return recipe_hash(folder, load_pipeline_config(folder))


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change pipeline.yaml."""
    path = folder / "pipeline.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


def request(**more: Any) -> RunRequest:
    """A run on one span."""
    values = {
        "run_id": "r",
        "pipeline": "flights",
        "spec_hash": "s1",
        "trigger": TriggerKind.MANUAL,
        "requested_at": NOW,
        "spans": (SPAN,),
        "new_spans": (SPAN.name,),
        "seed": 1,
        "airflow_dag_id": "flights",
        "airflow_run_id": "a",
        "mlflow_run_id": None,
    }
    return RunRequest.model_validate({**values, **more})


@pytest.mark.parametrize(
    ("block", "values"),
    [
        ("gate", {"metric": "auc", "threshold": 0.7, "approval": {"mode": "manual"}}),
        ("monitor", {"notify": ["ops"]}),
        ("serving", {"keep_versions": 2}),
        ("validate", {"drift": {"numeric": 0.4}}),
        ("evaluate", {"slices": ["origin", "carrier", "dest"]}),
        ("retention", {"versions": 3}),
        ("trigger", {"cooldown_s": 60}),
        ("nodes", {"Trainer": {"retries": 0}}),
        ("description", "Late flights"),
        ("owner", "somebody else"),
        ("tags", []),
        ("source", {"path": "/data", "pattern": "*.csv", "max_bad_rows": 5}),
        ("source", {"kind": "s3", "uri": "s3://flights/months"}),
        ("window", {"time_column": "time_hour", "first_span_holdout_days": 7, "max_spans": 12}),
        ("refit", True),
    ],
)
def test_what_does_not_make_the_model_leaves_the_recipe(folder: Path, block: str, values: Any) -> None:
    """Such as a gate that was tightened after a rollback: the same spans give the version that was rolled back from."""
    before = recipe(folder)
    edit(folder, lambda config: config.update({block: values}))
    assert recipe(folder) == before


@pytest.mark.parametrize(
    ("block", "values"),
    [
        ("label", "carrier"),
        ("seed", 2),
        ("refit", False),
        ("window", {"time_column": "time_hour", "first_span_holdout_days": 3}),
        ("train", {"epochs": 4}),
        ("train", {"epochs": 3, "batch_size": 1024, "hyperparameters": {"hidden_units": 49}}),
    ],
)
def test_what_makes_the_model_changes_the_recipe(folder: Path, block: str, values: Any) -> None:
    """Label, seed, and what model.py reads."""
    before = recipe(folder)
    edit(folder, lambda config: config.update({block: values}))
    assert recipe(folder) != before


@pytest.mark.parametrize("name", ["model.py", "features.py", "schema.pbtxt"])
def test_code_and_schema_change_the_recipe(folder: Path, name: str) -> None:
    """Every byte of them."""
    before = recipe(folder)
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write("\n")
    assert recipe(folder) != before


def test_any_other_file_changes_the_recipe(folder: Path) -> None:
    """The pipeline's code may read it."""
    before = recipe(folder)
    (folder / "airports.csv").write_text("EWR\n", encoding="utf-8")
    assert recipe(folder) != before


def test_the_readme_and_comments_leave_the_recipe(folder: Path) -> None:
    """They are for people."""
    before = recipe(folder)
    for name in ("README.md", "pipeline.yaml"):
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write("\n# A line more\n")
    assert recipe(folder) == before


def test_the_stored_copy_has_the_recipe_of_the_folder(folder: Path) -> None:
    """Deploying adds an empty `__init__.py`, and `ct reproduce` hashes the copy; one that holds code counts."""
    (folder / "__init__.py").unlink()
    before = recipe(folder)
    (folder / "__init__.py").touch()
    assert recipe(folder) == before
    (folder / "__init__.py").write_text("import os\n", encoding="utf-8")
    assert recipe(folder) != before


def test_another_version_of_ct_leaves_the_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ct itself did is on record beside it (contracts.MadeWith)."""
    before = recipe(folder)
    monkeypatch.setattr("ct.deploy.__version__", "9.9.9")
    assert recipe(folder) == before


def test_a_key_that_a_later_ct_brings_counts_once_it_is_set(folder: Path) -> None:
    """Nobody has said that it makes no model; its default is what there was before."""

    class LaterSource(FolderSourceConfig):
        separator: str = ","

    class Later(PipelineConfig):
        augment: bool = False
        source: LaterSource = LaterSource()  # type: ignore[assignment]

    values = load_pipeline_config(folder).model_dump(mode="json")
    before = recipe(folder)
    assert recipe_hash(folder, Later.model_validate(values)) == before
    assert recipe_hash(folder, Later.model_validate({**values, "augment": True})) != before
    source = {**values["source"], "separator": ";"}
    assert recipe_hash(folder, Later.model_validate({**values, "source": source})) != before


def test_what_is_left_out_by_name_exists() -> None:
    """A key that was renamed must be decided on again."""
    assert set(NOT_IN_RECIPE) <= set(PipelineConfig.model_fields)
    assert NOT_IN_RECIPE["source"] == {name for source in SOURCES for name in source.model_fields}
    assert NOT_IN_RECIPE["window"] <= set(PipelineConfig.model_fields["window"].annotation.model_fields)  # type: ignore[union-attr]


def test_a_fingerprint_is_of_data_recipe_and_seed(tmp_path: Path) -> None:
    """Another spec of the same recipe makes the same model; other data, recipe or seed do not. Run and version agree."""
    run = request(recipe_hash="r1")
    assert request(recipe_hash="r1", spec_hash="s2").fingerprint == run.fingerprint
    other = SPAN.model_copy(update={"sha256": "b" * 64})
    for change in ({"spans": (other,)}, {"recipe_hash": "r2"}, {"seed": 2}):
        assert request(**{"recipe_hash": "r1", **change}).fingerprint != run.fingerprint
    made = {"spans": run.spans, "spec_hash": "s3", "recipe_hash": "r1", "seed": 1}
    assert manifest_of("flights", 1, tmp_path).model_copy(update=made).fingerprint == run.fingerprint


def test_records_from_before_recipes_keep_their_fingerprint(tmp_path: Path) -> None:
    """A version in quarantine since then stays there: its spec's hash stands where the recipe's does now."""
    old = "5e5e7b40dd60244d9af9177c9fb838c4c63ce9efc2dadc849f4298dbe3a087c9"
    run = json.loads(request().model_dump_json())
    version = json.loads(
        manifest_of("flights", 1, tmp_path, seed=1)
        .model_copy(update={"spans": (SPAN,), "spec_hash": "s1"})
        .model_dump_json()
    )
    for record in (run, version):
        del record["recipe_hash"]
    assert RunRequest.model_validate(run).fingerprint == old
    assert VersionManifest.model_validate(version).fingerprint == old


def test_a_spec_from_before_recipes_is_read() -> None:
    """Its runs have no recipe either."""
    stored = {
        "spec_hash": "s1",
        "pipeline": "flights",
        "config": {},
        "nodes": [],
        "readme": "",
        "deployed_at": NOW.isoformat(),
        "code_commit": None,
        "requirement_hashes": {},
    }
    assert DeployedSpec.model_validate(stored).recipe_hash is None
