"""Mirroring: a shadow's process is started, fed, ended, and started again when it ends by itself; nothing of it blocks."""

from __future__ import annotations

import sys
import time
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ct.contracts import Feature
from ct.home import Home
from serving.logs.prediction_files import Answered
from serving.plane import mirror
from serving.plane.mirror import MAX_WAITING_ROWS, Mirrors
from serving.rows import Layout, from_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LAYOUT = Layout((Feature(name="x", dtype="float32"),))
COPY = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"
"""A shadow that writes down what it was given once there is no more."""
STUCK = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
DIES = "import pathlib, sys; open(sys.argv[1], 'a').write('started\\n')"


class Told:
    """Stands for the metrics."""

    def __init__(self) -> None:
        self.dropped: Counter[tuple[str, int]] = Counter()

    def shadow_dropped(self, model: str, version: int, count: int) -> None:
        self.dropped[model, version] += count


def answered(*values: float) -> Answered:
    """A request that the champion answered with 1 a row."""
    rows = from_columns(LAYOUT, {"x": list(values)}, "inputs")
    return Answered("trips", 6, "champion", "id", None, 0.0, rows, [1.0] * len(values))


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is true."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def drained(mirrors: Mirrors) -> None:
    """Wait until the shadows' threads have taken all that was mirrored."""
    until(lambda: not any(each._queue for each in mirrors._mirrors.values()))


@pytest.fixture
def told() -> Told:
    """What was dropped."""
    return Told()


@pytest.fixture
def mirrors(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirrors]:
    """Quick ones, whose shadows run COPY into `<version>.txt` unless a test says otherwise."""
    monkeypatch.setattr(mirror, "GATHER_S", 0.01)
    monkeypatch.setattr(mirror, "RESTART_S", 0.05)
    monkeypatch.setattr(mirror, "STOP_S", 2)
    shadows(monkeypatch, tmp_path, COPY)
    mirroring = Mirrors(Home(tmp_path), told)  # type: ignore[arg-type]
    yield mirroring
    mirroring.close()


def shadows(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Let shadows run this code."""
    monkeypatch.setattr(
        mirror, "command", lambda _, version: [sys.executable, "-c", code, str(folder / f"{version}.txt")]
    )


def served(shadow: int | None) -> Any:
    """A model that serves, with a shadow."""
    return SimpleNamespace(name="trips", shadow=shadow)


def test_a_shadow_gets_every_request_and_ends_when_it_is_over(tmp_path: Path, told: Told, mirrors: Mirrors) -> None:
    """In their order; another shadow begins anew."""
    mirrors.follow([served(7)])
    for number in range(1000):
        mirrors.mirror(7, answered(float(number)), kept=False)
        if number == 500:
            drained(mirrors)
    drained(mirrors)
    mirrors.follow([served(8)])
    mirrors.mirror(8, answered(0.5), kept=True)
    until((tmp_path / "7.txt").exists)
    until(lambda: (tmp_path / "7.txt").read_bytes().count(b"\n") == 1000)
    lines = (tmp_path / "7.txt").read_bytes().splitlines()
    assert [float(line.rpartition(b"[[")[0].rpartition(b"[[")[2].split(b"]")[0]) for line in lines] == list(range(1000))
    drained(mirrors)
    mirrors.follow([])
    until((tmp_path / "8.txt").exists)
    assert told.dropped == {}


def test_without_a_shadow_there_is_nothing_to_mirror_to(told: Told, mirrors: Mirrors) -> None:
    """It may have ended while the request was answered."""
    mirrors.mirror(7, answered(0.5, 0.6), kept=True)
    assert told.dropped == {("trips", 7): 2}


def test_a_stuck_shadow_costs_nothing_but_its_rows(
    tmp_path: Path, told: Told, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queue is bounded, mirroring never waits, and it is killed in the end."""
    shadows(monkeypatch, tmp_path, STUCK)
    mirrors.follow([served(7)])
    began = time.monotonic()
    for _ in range(60):
        mirrors.mirror(7, answered(*[0.1] * 1000), kept=False)
    assert time.monotonic() - began < 2
    assert told.dropped["trips", 7] >= 60_000 - MAX_WAITING_ROWS - 10_000
    began = time.monotonic()
    mirrors.close()
    assert time.monotonic() - began < 10


def test_a_shadow_that_ends_by_itself_is_started_again(
    tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a pause, again and again; each time is logged."""
    shadows(monkeypatch, tmp_path, DIES)
    mirrors.follow([served(7)])
    path = tmp_path / "7.txt"
    until(lambda: path.exists() and path.read_text().count("started") >= 3)
    assert "the shadow of trips, version 7, ended by itself (0)" in caplog.text


def test_a_shadow_that_cannot_be_started_is_said(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The champion does not notice."""
    monkeypatch.setattr(mirror, "command", lambda *_: ["/nowhere/python"])
    mirrors.follow([served(7)])
    until(lambda: "ended by itself" in caplog.text)
    assert "/nowhere/python" in caplog.text
