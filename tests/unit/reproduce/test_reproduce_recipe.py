"""What is checked before a version is built again. Building and comparing: tests/integration/training."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from ct.config import PipelineConfig, parse_pipeline_config
from ct.contracts import DeployedSpec, NodeSpec, Span, Stage
from ct.deploy import content_hash, recipe_hash
from ct.errors import ReproduceError
from ct.home import Home, write_atomically
from ct.made_with import made_with_now
from ct.reproduce import recipe_of
from ct.rollout import ModelStore
from tests.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ct.contracts import MadeWith

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
CONFIG = {
    "name": "trips",
    "description": "d",
    "owner": "o",
    "label": "late",
    "window": {"time_column": "time"},
    "gate": {"threshold": 0.5},
}
NOW_HERE = made_with_now()
INSTALLED = NOW_HERE.requirement_hashes["training"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home."""
    return Home(tmp_path / "home").create()


@pytest.fixture
def span(tmp_path: Path) -> Span:
    """A span whose file is where it was read."""
    path = tmp_path / "2026-01.csv"
    path.write_bytes(b"a,b\n1,2\n")
    return Span(
        pipeline="trips",
        name="2026-01",
        revision=1,
        sha256=hashlib.sha256(b"a,b\n1,2\n").hexdigest(),
        uri=str(path),
        format="csv",
        size_bytes=8,
        seen_at=NOW,
    )


@pytest.fixture
def register(home: Home, span: Span, tmp_path: Path) -> Callable[..., ModelStore]:
    """Store a spec and register version 1 that it trained. `made` is what its nodes ran with; None: they did not say."""

    def make(
        *,
        refit: bool = False,
        requirements_sha256: str = INSTALLED,
        keep_spec: bool = True,
        made: tuple[MadeWith, ...] | None = None,
    ) -> ModelStore:
        code = tmp_path / "code" / "trips"
        code.mkdir(parents=True)
        (code / "model.py").write_text("1", encoding="utf-8")
        spec_hash = content_hash(code)
        (code / "__init__.py").touch()
        spec_dir = home.deployed / "trips" / "specs" / spec_hash
        spec_dir.mkdir(parents=True)
        code.parent.rename(spec_dir / "code")
        names = ("ExampleGen", "Schema", "Transform", "Trainer", "Refit")
        spec = DeployedSpec(
            spec_hash=spec_hash,
            pipeline="trips",
            config=parse_pipeline_config(CONFIG, where="test").model_dump(mode="json"),
            nodes=tuple(NodeSpec(id=name, stage=Stage.TRAIN, upstream=(), after_approval=False) for name in names),
            readme="",
            deployed_at=NOW,
            code_commit=None,
            requirement_hashes={"training": requirements_sha256},
        )
        if keep_spec:
            write_atomically(spec_dir / "spec.json", spec.model_dump_json())
        store = ModelStore(home, "trips")
        saved_model = tmp_path / "model"
        saved_model.mkdir()
        (saved_model / "saved_model.pb").write_bytes(b"m")
        manifest = manifest_of("trips", 1, saved_model, created_at=NOW)
        manifest = manifest.model_copy(update={"spans": (span,), "spec_hash": spec_hash, "seed": 3, "refit": refit})
        if made is not None:
            recipe = recipe_hash(spec_dir / "code" / "trips", PipelineConfig.model_validate(spec.config))
            manifest = manifest.model_copy(update={"made_with": made, "recipe_hash": recipe})
        store.stage(saved_model, manifest, {"instances": [], "predictions": []})
        return store

    return make


def test_everything_as_recorded(home: Home, register: Callable[..., ModelStore], span: Span) -> None:
    """Nothing differs, and the nodes up to the trainer are to run."""
    recipe = recipe_of(home, register(), 1, anyway=False)
    assert recipe.differences == ()
    assert recipe.spans == (span,)
    assert recipe.node_ids == ("ExampleGen", "Schema", "Transform", "Trainer")


def test_a_refitted_version_is_refitted_again(home: Home, register: Callable[..., ModelStore]) -> None:
    """What serves is the refit; its twin is not needed for it."""
    assert recipe_of(home, register(refit=True), 1, anyway=False).node_ids[-1] == "Refit"


def test_missing_bytes_name_the_span_and_where_it_was(
    home: Home, register: Callable[..., ModelStore], tmp_path: Path
) -> None:
    """Whoever has a backup knows what to put where."""
    (tmp_path / "2026-01.csv").unlink()
    with pytest.raises(ReproduceError, match=r"1 of its 1 spans(.|\n)*2026-01: its bytes are gone from .*2026-01\.csv"):
        recipe_of(home, register(), 1, anyway=True)


def test_other_bytes_under_the_name_are_not_the_span(
    home: Home, register: Callable[..., ModelStore], tmp_path: Path
) -> None:
    """A file is what its bytes are."""
    (tmp_path / "2026-01.csv").write_bytes(b"a,b\n9,9\n")
    with pytest.raises(ReproduceError, match=r"holds other bytes now than revision 1"):
        recipe_of(home, register(), 1, anyway=True)


def test_a_fetched_copy_stands_in(home: Home, register: Callable[..., ModelStore], span: Span, tmp_path: Path) -> None:
    """A copy is named by its hash, wherever the span was read from."""
    copy = home.fetched("trips") / f"{span.sha256}.csv"
    copy.parent.mkdir(parents=True)
    (tmp_path / "2026-01.csv").rename(copy)
    assert [found.uri for found in recipe_of(home, register(), 1, anyway=False).spans] == [str(copy)]


def test_another_environment_stops_unless_asked(home: Home, register: Callable[..., ModelStore]) -> None:
    """The hash of the requirements is part of the record; `--anyway` lists it and goes on."""
    store = register(requirements_sha256="0" * 64)
    with pytest.raises(
        ReproduceError, match=r"--anyway(.|\n)*requirements of the training plane: 000000000000 recorded"
    ):
        recipe_of(home, store, 1, anyway=False)
    (difference,) = recipe_of(home, store, 1, anyway=True).differences
    assert "000000000000 recorded" in difference


def test_pins_that_changed_between_deployment_and_training_are_no_difference(
    home: Home, register: Callable[..., ModelStore]
) -> None:
    """The version was made with those of the training, whatever the spec was stored with."""
    recipe = recipe_of(home, register(requirements_sha256="0" * 64, made=(NOW_HERE,)), 1, anyway=False)
    assert (recipe.differences, recipe.requirements) == ((), (INSTALLED,))


def test_pins_that_changed_since_the_training_are_found(home: Home, register: Callable[..., ModelStore]) -> None:
    """Although the spec was stored with those of today."""
    older = NOW_HERE.model_copy(update={"requirement_hashes": {"training": "0" * 64}})
    with pytest.raises(ReproduceError, match=r"requirements of the training plane: 000000000000 recorded"):
        recipe_of(home, register(made=(older,)), 1, anyway=False)


def test_another_ct_is_found_with_both_commits(home: Home, register: Callable[..., ModelStore]) -> None:
    """Its version says nothing; its code does, and the commits are where to look."""
    older = NOW_HERE.model_copy(update={"code_sha256": "0" * 64, "commit": "c0ffee"})
    told = f"ct's own code: 000000000000 .version {NOW_HERE.version}, commit c0ffee. recorded, {NOW_HERE.code_sha256[:12]} "
    store = register(made=(older,))
    with pytest.raises(ReproduceError, match=told):
        recipe_of(home, store, 1, anyway=False)
    assert len(recipe_of(home, store, 1, anyway=True).differences) == 1


def test_another_commit_with_the_same_code_is_no_difference(home: Home, register: Callable[..., ModelStore]) -> None:
    """Of documents, say."""
    older = NOW_HERE.model_copy(update={"commit": "c0ffee", "version": "0.0.9"})
    assert recipe_of(home, register(made=(older,)), 1, anyway=False).differences == ()


def test_a_ct_that_changed_within_the_run_is_found(home: Home, register: Callable[..., ModelStore]) -> None:
    """Trainer was cleared after an upgrade; what ExampleGen ran with is gone."""
    older = NOW_HERE.model_copy(update={"code_sha256": "0" * 64})
    (difference,) = recipe_of(home, register(made=(older, NOW_HERE)), 1, anyway=True).differences
    assert difference.startswith("ct's own code: 000000000000")


def test_changed_code_of_the_pipeline_is_found_by_its_recipe(home: Home, register: Callable[..., ModelStore]) -> None:
    """What is for people may change."""
    store = register(made=(NOW_HERE,))
    (code,) = home.deployed.glob("trips/specs/*/code/trips")
    (code / "README.md").write_text("# Other words", encoding="utf-8")
    assert recipe_of(home, store, 1, anyway=False).differences == ()
    (code / "model.py").write_text("2", encoding="utf-8")
    with pytest.raises(
        ReproduceError, match="pipeline: its stored code, schema and settings do not hash to the recipe"
    ):
        recipe_of(home, store, 1, anyway=False)


def test_changed_settings_of_the_pipeline_are_found_by_its_recipe(
    home: Home, register: Callable[..., ModelStore]
) -> None:
    """Those of training, in the spec that its nodes read."""
    store = register(made=(NOW_HERE,))
    (path,) = home.deployed.glob("trips/specs/*/spec.json")
    spec = json.loads(path.read_text(encoding="utf-8"))
    spec["config"]["train"]["epochs"] = 9
    path.write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(ReproduceError, match="pipeline: its stored code"):
        recipe_of(home, store, 1, anyway=False)


def test_settings_that_this_ct_does_not_know_are_named(home: Home, register: Callable[..., ModelStore]) -> None:
    """A newer ct deployed it: its nodes would not start here, whatever is asked."""
    store = register(made=(NOW_HERE,))
    (path,) = home.deployed.glob("trips/specs/*/spec.json")
    spec = json.loads(path.read_text(encoding="utf-8"))
    spec["config"]["train"]["later"] = 1
    path.write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(ReproduceError, match=r"cannot read the pipeline\.yaml of spec .* train\.later: unknown key"):
        recipe_of(home, store, 1, anyway=True)


def test_changed_files_of_the_spec_are_found(home: Home, register: Callable[..., ModelStore]) -> None:
    """The stored code is what was deployed, or it differs; a version from before recipes goes by the spec's hash."""
    store = register()
    (model,) = home.deployed.glob("trips/specs/*/code/trips/model.py")
    model.write_text("2", encoding="utf-8")
    with pytest.raises(ReproduceError, match="spec: its stored files"):
        recipe_of(home, store, 1, anyway=False)


def test_changed_files_of_the_model_are_found(home: Home, register: Callable[..., ModelStore]) -> None:
    """A comparison with something else would prove nothing."""
    store = register()
    (store.version_path(1) / "saved_model" / "extra").write_bytes(b"x")
    with pytest.raises(ReproduceError, match="registered model: its files are not those"):
        recipe_of(home, store, 1, anyway=False)


def test_a_spec_that_is_gone_is_said(home: Home, register: Callable[..., ModelStore]) -> None:
    """Without the code there is nothing to run, whatever is asked."""
    with pytest.raises(ReproduceError, match=r"the spec that trained it, [0-9a-f]{16}, is not in"):
        recipe_of(home, register(keep_spec=False), 1, anyway=True)


def test_a_version_from_before_specs_were_recorded_is_said(home: Home, tmp_path: Path) -> None:
    """It serves as well as any other."""
    saved_model = tmp_path / "old"
    saved_model.mkdir()
    store = ModelStore(home, "trips")
    store.stage(saved_model, manifest_of("trips", 1, saved_model), {})
    with pytest.raises(ReproduceError, match="before spec and seed were part"):
        recipe_of(home, store, 1, anyway=True)
