"""The files of serving workers: whose they are, whether they can be read, and when they go."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from rollout_parts import NOW, answering, roll_back, roll_out, worker

from ct.home import Home
from ct.rollout import ModelStore, announce_worker

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def ended() -> int:
    """The pid of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def both(store: ModelStore, pid: int) -> tuple[Path, Path]:
    """Where a worker says that it runs, and what it has loaded."""
    paths = (store.root.parent / ".workers" / f"{pid}.json", store.root / "workers" / f"{pid}.json")
    for path in paths:
        path.parent.mkdir(exist_ok=True)
    return paths


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"pid": 1, "of": "another ct"}'])
def test_an_unreadable_file_blocks_no_change(store: ModelStore, ended: int, content: bytes) -> None:
    """Neither one of a worker that has ended nor one of a pid that runs: the others are waited for, and that is all."""
    roll_out(store, 1)
    for pid in (ended, 1):
        for path in both(store, pid):
            path.write_bytes(content)
    with answering(store, lambda desired: worker(desired.generation, desired.version)):
        assert roll_out(store, 2).workers == 1
        assert roll_back(store).workers == 1
    assert [entry.version for entry in store.history()] == [1, 2, 1]


def test_a_file_of_an_ended_worker_is_not_read(store: ModelStore, ended: int) -> None:
    """Its name has the pid. A folder in its place would be an error to read."""
    for path in both(store, ended):
        path.mkdir()
    assert store.live_workers() == ()


def test_a_worker_that_starts_removes_the_files_of_those_that_ended(store: ModelStore, ended: int) -> None:
    """In both folders: what is dead, what belonged to an earlier process of its own pid; others stay."""
    other = ModelStore(Home(store.root.parent.parent), "trips")
    me = worker(0, None)
    gone = [*both(store, ended), other.root / "workers" / f"{ended}.json", store.root / "workers" / f"{me.pid}.json"]
    for path in gone:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(me.model_copy(update={"pid": int(path.stem), "generation": 7}).model_dump_json())
    reused = both(store, 1)[1]
    reused.write_text(me.model_copy(update={"pid": 1, "started_at": NOW}).model_dump_json())
    unreadable = both(store, 1)[0]
    unreadable.write_text("{")
    announce_worker(Home(store.root.parent.parent), me)
    assert [path for path in (*gone, reused) if path.exists()] == []
    assert unreadable.exists()
    assert store.live_workers() == (me,)


def test_a_time_without_a_zone_is_no_crash(store: ModelStore) -> None:
    """A worker file that somebody wrote by hand."""
    me = worker(1, 1)
    path = both(store, me.pid)[1]
    path.write_text(me.model_copy(update={"started_at": NOW.replace(tzinfo=None)}).model_dump_json())
    assert store.live_workers() == ()
