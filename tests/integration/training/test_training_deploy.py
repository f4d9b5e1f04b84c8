"""Deploying: what is stored, and what is refused before anything is."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from tiny_run import TINY

from ct.config import NODE_IDS, PipelineConfig
from ct.contracts import Stage
from ct.deploy import deploy, deployed_pipelines, deployed_spec, recipe_hash, spec_dir_of
from ct.errors import ConfigError
from ct.home import Home

if TYPE_CHECKING:
    from pathlib import Path

    from ct.contracts import DeployedSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the tiny pipeline that a test may break."""
    return shutil.copytree(TINY, tmp_path / "tiny")


@pytest.fixture
def empty_home(tmp_path: Path) -> Home:
    """A home where nothing is deployed."""
    return Home(tmp_path / "home").create()


def test_every_node_is_in_the_spec(spec: DeployedSpec) -> None:
    """The spec lists ct's node ids in an order in which they can run."""
    ids = [node.id for node in spec.nodes]
    assert sorted(ids) == sorted(NODE_IDS)
    assert all(ids.index(upstream) < ids.index(node.id) for node in spec.nodes for upstream in node.upstream)


def test_release_nodes_wait_for_approval(spec: DeployedSpec) -> None:
    """Refit, Prove and Rollout need an approval, Register records refused runs too."""
    nodes = {node.id: node for node in spec.nodes}
    assert [node_id for node_id, node in nodes.items() if node.after_approval] == ["Refit", "Prove", "Rollout"]
    assert [node_id for node_id, node in nodes.items() if node.runs_when_upstream_skipped] == ["Register"]
    assert nodes["Register"].stage is Stage.RELEASE


def test_ir_names_no_path(home: Home, spec: DeployedSpec) -> None:
    """Runs bind every path, so that CT_HOME may move."""
    spec_dir = spec_dir_of(home, spec.pipeline, spec.spec_hash)
    assert str(home.root) not in (spec_dir / "ir.json").read_text(encoding="utf-8")


def test_deploying_the_same_again_changes_nothing(home: Home, spec: DeployedSpec) -> None:
    """The second deploy says so and compiles nothing."""
    lines: list[str] = []
    outcome = deploy(TINY, home, on_line=lines.append)
    assert not outcome.changed
    assert outcome.spec == spec
    assert lines == []


def test_a_tightened_gate_is_another_spec_of_the_same_recipe(folder: Path, home: Home, spec: DeployedSpec) -> None:
    """So a version that was rolled back from cannot come back through it."""
    text = (folder / "pipeline.yaml").read_text(encoding="utf-8").replace("threshold: 0.6", "threshold: 0.7")
    (folder / "pipeline.yaml").write_text(text, encoding="utf-8")
    elsewhere = Home(folder.parent / "home").create()
    tightened = deploy(folder, elsewhere, on_line=print).spec
    assert tightened.spec_hash != spec.spec_hash
    assert tightened.recipe_hash == spec.recipe_hash
    stored = spec_dir_of(home, spec.pipeline, spec.spec_hash) / "code" / spec.pipeline
    assert recipe_hash(stored, PipelineConfig.model_validate(spec.config)) == spec.recipe_hash


def test_code_that_does_not_import_is_refused_with_its_line(folder: Path, empty_home: Home) -> None:
    """The message names the line of the pipeline's own code, and nothing is deployed."""
    (folder / "features.py").write_text('"""Broken."""\n\nimport no_such_module\n', encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"features\.py, line 3: ModuleNotFoundError: No module named 'no_such_module'"
    ):
        deploy(folder, empty_home, on_line=print)
    assert deployed_pipelines(empty_home) == ()
    assert list((empty_home.deployed / "tiny" / "specs").iterdir()) == []


def test_syntax_error_is_refused_with_its_line(folder: Path, empty_home: Home) -> None:
    """A file that does not parse has no frame of its own; its line is named all the same."""
    (folder / "features.py").write_text('"""Broken."""\n\ndef preprocessing_fn(:\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"features\.py, line 3: SyntaxError"):
        deploy(folder, empty_home, on_line=print)


def test_missing_entry_point_is_refused(folder: Path, empty_home: Home) -> None:
    """model.py must have run_fn."""
    (folder / "model.py").write_text('"""No entry point."""\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"model\.py has no function `run_fn`"):
        deploy(folder, empty_home, on_line=print)


def test_column_that_the_schema_lacks_is_refused(folder: Path, empty_home: Home) -> None:
    """A label, time column or slice that is no feature of schema.pbtxt is told at deploy, with the nearest name."""
    text = (folder / "pipeline.yaml").read_text(encoding="utf-8").replace("slices: [kind]", "slices: [knid]")
    (folder / "pipeline.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r'evaluate\.slices: "knid" is no feature of schema\.pbtxt; did you mean `kind`\?'
    ):
        deploy(folder, empty_home, on_line=print)


def test_metric_that_cannot_be_judged_by_is_refused(folder: Path, empty_home: Home) -> None:
    """A check of several numbers would hold up every candidate; nothing is deployed."""
    checked = "  checks: [{metric: precise, at_least: 0.5}]\n"
    measured = "  metrics: [{name: precise, class_name: Precision, config: {thresholds: [0.3, 0.5]}}]\ngate:"
    text = (folder / "pipeline.yaml").read_text(encoding="utf-8").replace("gate:", measured)
    (folder / "pipeline.yaml").write_text(text + checked, encoding="utf-8")
    with pytest.raises(ConfigError, match="`precise`: Precision gives 2 numbers"):
        deploy(folder, empty_home, on_line=print)
    assert deployed_pipelines(empty_home) == ()


@pytest.mark.parametrize("presence", ["", "presence { min_count: 1 }", "presence { min_fraction: 0.999 min_count: 1 }"])
def test_label_that_rows_may_lack_is_refused(folder: Path, empty_home: Home, presence: str) -> None:
    """Such rows would stop every run that has one; the message says what to write, and that does deploy."""
    schema = folder / "schema.pbtxt"
    required = "presence { min_fraction: 1 min_count: 1 }"
    *others, label = schema.read_text(encoding="utf-8").splitlines()
    schema.write_text("\n".join([*others, label.replace(required, presence)]), encoding="utf-8")
    with pytest.raises(ConfigError, match='rows may lack "late", the label') as refused:
        deploy(folder, empty_home, on_line=print)
    assert f"\n  {required}\n" in refused.value.message
    assert deployed_pipelines(empty_home) == ()


@pytest.mark.parametrize("other", ["type: INT", "type: INT int_domain { max: 1 }", "type: FLOAT", "type: BYTES"])
def test_label_that_may_be_other_than_0_or_1_is_refused(folder: Path, empty_home: Home, other: str) -> None:
    """The gate's counts are of two classes, and a third would stop every run that has one."""
    schema = folder / "schema.pbtxt"
    *others, label = schema.read_text(encoding="utf-8").splitlines()
    binary = label.replace(" int_domain { min: 0 max: 1 }", "")
    schema.write_text("\n".join([*others, binary.replace("type: INT", other)]), encoding="utf-8")
    with pytest.raises(ConfigError, match='"late", the label, may be something else than 1') as refused:
        deploy(folder, empty_home, on_line=print)
    assert "\n  type: INT int_domain { min: 0 max: 1 }\n" in refused.value.message


def test_schema_that_does_not_parse_is_refused(folder: Path, empty_home: Home) -> None:
    """The message holds the line that protobuf names."""
    (folder / "schema.pbtxt").write_text("feature { nmae: 1 }\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"schema\.pbtxt does not parse: 1:\d+"):
        deploy(folder, empty_home, on_line=print)


def test_name_of_an_installed_module_is_refused(folder: Path, empty_home: Home) -> None:
    """A pipeline called `json` would shadow the module that everything else imports."""
    text = (folder / "pipeline.yaml").read_text(encoding="utf-8").replace("name: tiny", "name: json")
    (folder / "pipeline.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="`json` is the name of an installed Python module"):
        deploy(folder, empty_home, on_line=print)


def test_failed_deploy_leaves_what_was_deployed(folder: Path, empty_home: Home) -> None:
    """The pointer moves only after everything is stored."""
    before = deploy(folder, empty_home, on_line=print).spec
    (folder / "model.py").write_text("raise ValueError('late')\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"model\.py, line 1: ValueError: late"):
        deploy(folder, empty_home, on_line=print)
    assert deployed_spec(empty_home, "tiny") == before
    assert json.loads((empty_home.deployed / "tiny" / "current.json").read_text()) == {"spec_hash": before.spec_hash}
