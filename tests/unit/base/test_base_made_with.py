"""What a model is made with: which of ct's files count, and that pins and commit are those of now."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import grimp
import pytest

from ct.made_with import CODE, ROOMS_THAT_MAKE_NO_MODEL, code_sha256, commit_of, made_with_now
from ct.planes import PROJECT, Plane, requirement_hashes

if TYPE_CHECKING:
    from pathlib import Path

MODULES_OF_MODEL = ("example_gen", "schema", "transform", "run", "parameters", "metadata", "autograph", "facts")
"""Of ct.training, those whose code the nodes that make a model run; TFX's own nodes run the pipeline's."""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Files as ct has them."""
    for name in ("contracts.py", "training/transform.py", "training/page.html", "cli/main.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["training/transform.py", "contracts.py", "later.py", "a_new_room/code.py"])
def test_code_that_may_make_a_model_counts(code: Path, name: str) -> None:
    """Also in a room that nobody has decided on yet."""
    before = code_sha256(code)
    (code / name).parent.mkdir(exist_ok=True)
    (code / name).write_text("2", encoding="utf-8")
    assert code_sha256(code) != before


@pytest.mark.parametrize("name", ["cli/main.py", "gate/policy.py", "training/page.html"])
def test_code_that_makes_no_model_does_not(code: Path, name: str) -> None:
    """A version is not another one because a command prints other words."""
    before = code_sha256(code)
    (code / name).parent.mkdir(exist_ok=True)
    (code / name).write_text("2", encoding="utf-8")
    assert code_sha256(code) == before


def test_a_room_that_is_left_out_is_imported_by_no_node_that_makes_a_model() -> None:
    """Else its code had to count. Every room that is left out exists."""
    graph = grimp.build_graph("ct", cache_dir=None)
    imported = {name for module in MODULES_OF_MODEL for name in graph.find_upstream_modules(f"ct.training.{module}")}
    assert {name.split(".")[1] for name in imported if "." in name}.isdisjoint(ROOMS_THAT_MAKE_NO_MODEL)
    assert all((CODE / room).is_dir() for room in ROOMS_THAT_MAKE_NO_MODEL)


def test_pins_are_read_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade between a deployment and a run is on the run's record. These environments say nothing: the files do."""
    (tmp_path / "requirements").mkdir()
    for plane in Plane:
        (tmp_path / "requirements" / f"{plane.value}.txt").write_text("tfx==1", encoding="utf-8")
    monkeypatch.setattr("ct.planes.PROJECT", tmp_path)
    before = made_with_now()
    (tmp_path / "requirements" / "training.txt").write_text("tfx==2", encoding="utf-8")
    now = made_with_now()
    changed = {plane for plane, sha256 in now.requirement_hashes.items() if before.requirement_hashes[plane] != sha256}
    assert changed == {"training"}
    assert now.code_sha256 == before.code_sha256 == code_sha256(PROJECT / "ct")


def test_pins_are_those_that_were_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A requirements file that came with `git pull` trains nothing before `make setup`."""
    (tmp_path / "ct-setup.json").write_text('{"pins": "as installed"}', encoding="utf-8")
    monkeypatch.setenv("CT_TRAINING_ENV", str(tmp_path))
    assert requirement_hashes()["training"] == "as installed"


def test_the_commit_says_where_its_paths_have_changes(tmp_path: Path) -> None:
    """Those elsewhere in the checkout do not count; outside of one there is no commit."""
    assert commit_of(tmp_path, ".") is None
    _git(tmp_path, "init", "--quiet")
    for name in ("ct", "docs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("1", encoding="utf-8")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "m")
    commit = commit_of(tmp_path, "ct")
    assert commit is not None
    (tmp_path / "docs" / "a").write_text("2", encoding="utf-8")
    assert commit_of(tmp_path, "ct") == commit
    assert commit_of(tmp_path, ".") == f"{commit}-dirty"


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)
