"""CT_HOME: its layout, what cannot be used, and writing that survives a crash."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ct.errors import HomeError
from ct.home import Home, write_atomically


def test_a_home_is_made_once_and_keeps_its_instance(tmp_path: Path) -> None:
    """Creating again changes nothing, and secrets are for their owner only."""
    home = Home(tmp_path / "home").create()
    instance = home.instance
    assert Home(tmp_path / "home").create().instance == instance
    assert home.secrets.stat().st_mode & 0o777 == 0o700


def test_a_home_of_another_layout_is_refused(tmp_path: Path) -> None:
    """The message names both layouts, and nothing is changed."""
    home = Home(tmp_path / "home").create()
    (home.root / "home.json").write_text(json.dumps({"layout": 99, "instance": "x"}))
    with pytest.raises(HomeError, match="has layout 99, this ct reads layout 1"):
        home.create()


@pytest.mark.parametrize("text", ["", "{", "\x00"])
def test_a_damaged_marker_is_refused(tmp_path: Path, text: str) -> None:
    """It is neither overwritten nor a crash."""
    home = Home(tmp_path / "home").create()
    (home.root / "home.json").write_text(text)
    with pytest.raises(HomeError, match="not readable"):
        home.check_layout()
    assert (home.root / "home.json").read_text() == text


def test_a_folder_that_is_no_home_says_what_to_do(tmp_path: Path) -> None:
    """A command in the wrong folder hears of `ct up`."""
    with pytest.raises(HomeError, match=r"is not set up. Run `ct up`"):
        Home(tmp_path).check_layout()


def test_a_full_disk_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space left: nothing was started, and what to do."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(HomeError, match=r"cannot be written: No space left on device. Nothing was started"):
        Home(tmp_path / "home").create()


def test_a_reader_sees_the_old_text_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash before the rename leaves the old file whole and no litter."""
    path = tmp_path / "state.json"
    write_atomically(path, "old")

    def crash(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(OSError, match="Input/output"):
            write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, "new")
    assert path.read_text() == "new"


def test_a_socket_path_fits_the_kernel(tmp_path: Path) -> None:
    """A deep CT_HOME gets a short path elsewhere, the same each time and for each home another."""
    shallow = Home(Path("/srv/ct"))
    assert shallow.socket("worker") == Path("/srv/ct/run/worker.sock")
    deep = Home(tmp_path / ("d" * 120))
    assert len(os.fsencode(deep.socket("worker"))) < 108
    assert deep.socket("worker") == Home(deep.root).socket("worker")
    assert deep.socket("worker") != Home(tmp_path / ("e" * 120)).socket("worker")
