"""The process that predicts for the previous version: when it starts, and what is said when it does not work."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from monitor_parts import T0, log_rows, write_pairs

from ct.monitor import pairing
from ct.monitor.pairing import AFTER_FAILURE, Pairing
from ct.monitor.records import Records
from ct.monitor.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ct.home import Home

WATCH = Watch(generation=2, new=2, previous=1, since=T0)
EVERY = timedelta(minutes=1)


@dataclass
class World:
    """A pairing whose process is a script of the test's."""

    pairing: Pairing
    script: Path
    started: list[int] = field(default_factory=list)

    def does(self, what: str) -> None:
        """What the process does."""
        self.script.write_text(f"#!{sys.executable}\n{what}\n")
        self.script.chmod(0o755)

    def run(self, at_s: float, watch: Watch = WATCH) -> int:
        """Go on at a moment, and wait for the process if one began; how many have begun so far."""
        self.pairing.go_on(watch, T0 + timedelta(seconds=at_s))
        process = self.pairing._process
        if process is not None:
            process.wait(60)
        return len(self.started)


@pytest.fixture
def world(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A serving plane that is one script."""
    started: list[int] = []
    records = Records(home.monitor / "flights")
    found = World(
        Pairing(home, "flights", records, every=EVERY, step_back=started.append), tmp_path / "python", started
    )
    monkeypatch.setattr(pairing, "python", lambda _: found.script)
    log_rows(home, "flights", 2, [0.5], T0, "a")
    found.does("""print('{"rows": 3, "unfit": 0, "failed": 0}')""")
    yield found
    found.pairing.stop()


def test_one_process_runs_at_a_time_and_the_next_waits(world: World) -> None:
    """A start costs seconds of a processor; each process steps back."""
    assert world.run(0) == 1
    assert world.run(1) == 1
    assert world.pairing.problem is None
    assert world.run(59) == 1
    assert world.run(61) == 2


def test_a_quiet_model_costs_no_process(world: World, home: Home) -> None:
    """Where nothing was left to pair, the next one waits until the log is written again, or another watch is on."""
    world.does("""print('{"rows": 0, "unfit": 0, "failed": 0}')""")
    assert world.run(0) == 1
    world.run(1)
    assert world.run(62) == 1
    log_rows(home, "flights", 2, [0.5], T0, "b")
    assert world.run(124) == 2
    world.run(125)
    assert world.run(200, WATCH.model_copy(update={"generation": 3})) == 3


def test_without_a_log_no_process_starts(world: World, home: Home) -> None:
    """Nobody has asked for a prediction yet."""
    shutil.rmtree(home.predictions("flights"))
    assert world.run(0) == 0


def test_without_a_previous_version_none_starts(world: World) -> None:
    """There is nothing to pair with."""
    assert world.run(0, WATCH.model_copy(update={"previous": None})) == 0


def test_enough_pairs_are_enough(world: World, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither disk nor time may grow with the traffic of a week."""
    monkeypatch.setattr(pairing, "MOST_ROWS", 2)
    write_pairs(home.monitor / "flights" / "pairs" / WATCH.id, [("a", 0.5, 0.5), ("b", 0.5, 0.5)])
    assert world.run(0) == 0


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("import sys; sys.exit('no module named serving')", "ended with code 1: no module named serving"),
        ("""print('{"error": {"message": "version 1 does not load"}}'); raise SystemExit(1)""", "does not load"),
    ],
)
def test_a_process_that_fails_is_told_and_tried_again_later(world: World, what: str, problem: str) -> None:
    """What it said is part of the message."""
    world.does(what)
    world.run(0)
    assert world.run(1) == 1
    assert problem in str(world.pairing.problem)
    assert world.run(AFTER_FAILURE.total_seconds() - 1) == 1
    assert world.run(AFTER_FAILURE.total_seconds() + 2) == 2


def test_rows_that_do_not_fit_are_told(world: World) -> None:
    """They are not compared, and somebody should know."""
    world.does("""print('{"rows": 0, "unfit": 7, "failed": 0}')""")
    world.run(0)
    world.run(1)
    assert "7 logged rows lack features" in str(world.pairing.problem)
