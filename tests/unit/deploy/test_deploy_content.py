"""What makes a pipeline's content the same or another, and what is said when nothing is deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ct.deploy import content_hash, deployed_pipelines, deployed_spec
from ct.errors import ConfigError
from ct.home import Home

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files."""
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.py").write_text("1", encoding="utf-8")
    (tmp_path / "p" / "b.py").write_text("2", encoding="utf-8")
    return tmp_path / "p"


def test_changed_bytes_are_other_content(folder: Path) -> None:
    """One byte makes another spec."""
    before = content_hash(folder)
    (folder / "a.py").write_text("3", encoding="utf-8")
    assert content_hash(folder) != before


def test_moved_bytes_are_other_content(folder: Path) -> None:
    """Names count, and where one file ends and the next begins."""
    before = content_hash(folder)
    (folder / "a.py").write_text("12", encoding="utf-8")
    (folder / "b.py").write_text("", encoding="utf-8")
    assert content_hash(folder) != before


def test_what_python_leaves_behind_is_not_content(folder: Path) -> None:
    """Running the pipeline's code does not change it."""
    before = content_hash(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_bytes(b"x")
    assert content_hash(folder) == before


def test_unknown_pipeline_names_the_command(tmp_path: Path) -> None:
    """Asking for what is not deployed says how to deploy it."""
    home = Home(tmp_path).create()
    assert deployed_pipelines(home) == ()
    with pytest.raises(ConfigError, match=r'No pipeline "flights" is deployed .*Run `ct deploy pipelines/flights`'):
        deployed_spec(home, "flights")
