"""The monitor beside the real serving plane: bad versions go, good ones stay, and a changed world asks for a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from monitor_stack import ROWS_A_REQUEST, await_true, config, stack

from ct.contracts import Change
from ct.home import Home
from ct.monitor.decide import Action
from ct.monitor.monitor import records_of
from ct.planes import PROJECT
from ct.rollout import quarantined

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from monitor_stack import Stack

    from ct.monitor.monitor import ModelMonitor
    from ct.monitor.records import Status
    from ct.monitor_config import MonitorConfig
    from ct.rollout import ModelStore

PATIENCE_S = 180


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One serving process for all tests; each has a model of its own."""
    home = Home(tmp_path_factory.mktemp("monitor") / "home").create()
    with stack(home, tmp_path_factory.mktemp("models")) as found:
        yield found


def look_until(monitor: ModelMonitor, asked: MonitorConfig, action: Action) -> Status:
    """Look until the monitor comes to this."""
    seen: list[Status] = []

    def came() -> bool:
        seen.append(monitor.look(asked))
        return seen[-1].decision.action is action

    await_true(came, PATIENCE_S)
    return seen[-1]


def rolled_back(store: ModelStore) -> bool:
    """Whether the monitor let version 1 serve again and put 2 into quarantine."""
    entry = store.history()[-1]
    held = [record.version for record in quarantined(store)]
    return (entry.change, entry.version, entry.actor, held) == (
        Change.ROLLBACK,
        1,
        "monitor",
        [2],
    )


def told(running: Stack, name: str) -> list[str]:
    """Titles that the webhook got about a model."""
    return [message["title"] for message in running.received.messages if message["title"].startswith(f"{name}:")]


def test_a_version_that_fails_is_rolled_back(running: Stack) -> None:
    """Half of its requests get 500; the webhook has the numbers."""
    store = running.release("failing", "good", "failing")
    monitor, pairing = running.monitor("failing")
    monitor.look(config(signals=("errors",)))
    running.ask("failing", 300)
    monitor.look(config(signals=("errors",)))
    running.roll_out(store, 2)
    running.ask("failing", 120, seed=1)
    look_until(monitor, config(signals=("errors",)), Action.ROLLBACK)
    pairing.stop()
    assert rolled_back(store)
    assert told(running, "failing") == ["failing: rolled back from version 2 to 1"]
    message = running.received.messages[-1]["message"]
    assert "errors 0." in message
    assert "(share of requests answered with 5xx)" in message
    running.ask("failing", 20, seed=2)
    assert monitor.look(config()).decision.action is Action.KEEP


def test_a_version_that_is_slow_is_rolled_back(running: Stack) -> None:
    """It answers rightly, in some tens of milliseconds where the previous version took a few."""
    store = running.release("slow", "good", "slow")
    monitor, pairing = running.monitor("slow")
    monitor.look(config(signals=("latency",)))
    running.ask("slow", 300)
    monitor.look(config(signals=("latency",)))
    running.roll_out(store, 2)
    running.ask("slow", 120, seed=1)
    status = look_until(monitor, config(signals=("latency",)), Action.ROLLBACK)
    pairing.stop()
    assert rolled_back(store)
    assert "share of requests that took more than" in status.decision.reason
    assert told(running, "slow") == ["slow: rolled back from version 2 to 1"]


def test_a_version_that_is_wrong_is_rolled_back_on_its_labels(running: Stack, tmp_path: Path) -> None:
    """Labels come later; the previous version would have been right about the very same rows."""
    store = running.release("wrong", "good", "wrong")
    running.roll_out(store, 2)
    keys, x = running.ask("wrong", 16, rows=ROWS_A_REQUEST)
    happened = np.random.default_rng(1).random(len(x)) < x
    monitor, pairing = running.monitor("wrong")
    running.label("wrong", keys, happened, tmp_path)
    status = look_until(monitor, config(signals=("quality",)), Action.ROLLBACK)
    pairing.stop()
    assert rolled_back(store)
    assert "Brier score on the same labelled rows" in status.decision.reason
    assert "800 rows" in status.decision.reason
    assert told(running, "wrong") == ["wrong: rolled back from version 2 to 1"]


@pytest.mark.parametrize(
    ("kind", "signal", "said"),
    [
        ("failing", "errors", "share of requests answered with 5xx"),
        ("wrong", "quality", "Brier score on the same labelled rows"),
    ],
)
def test_a_canary_that_is_worse_is_ended(running: Stack, tmp_path: Path, kind: str, signal: str, said: str) -> None:
    """Compared with what serves beside it at the same time; what serves is not touched."""
    name = f"canary_{kind}"
    store = running.release(name, "good", kind)
    running.begin_canary(store, 2)
    monitor, pairing = running.monitor(name, "canary")
    monitor.look(config(signals=(signal,)))
    keys, x = running.ask(name, 300, rows=4)
    running.label(name, keys, np.random.default_rng(1).random(len(x)) < x, tmp_path)
    status = look_until(monitor, config(signals=(signal,)), Action.END_CANARY)
    pairing.stop()
    entry = store.history()[-1]
    assert (entry.change, entry.version, entry.canary, entry.actor) == (Change.END, 1, None, "monitor")
    assert [record.version for record in quarantined(store)] == [2]
    assert said in status.decision.reason
    assert told(running, name) == [f"{name}: the canary, version 2, was ended"]


def test_a_version_as_good_as_the_previous_one_stays(running: Stack, tmp_path: Path) -> None:
    """With all signals on, data for each of them, and several looks."""
    store = running.release("good", "good", "good")
    monitor, pairing = running.monitor("good")
    monitor.look(config())
    running.ask("good", 200)
    monitor.look(config())
    running.roll_out(store, 2)
    running.ask("good", 200, seed=1)
    keys, x = running.ask("good", 16, rows=ROWS_A_REQUEST, seed=2)
    running.label("good", keys, np.random.default_rng(1).random(len(x)) < x, tmp_path)

    def saw_all() -> bool:
        status = monitor.look(config())
        assert status.decision.action is Action.KEEP
        return all(signal.rows >= 200 for signal in status.signals)

    await_true(saw_all, PATIENCE_S)
    pairing.stop()
    assert store.history()[-1].version == 2
    assert told(running, "good") == []


def test_a_changed_world_asks_for_a_run_and_rolls_nothing_back(running: Stack, tmp_path: Path) -> None:
    """What used to happen does not any more: both versions are wrong, and Airflow is asked for a run."""
    store = running.release("world", "good", "good")
    running.roll_out(store, 2)
    keys, x = running.ask("world", 16, rows=ROWS_A_REQUEST)
    running.label("world", keys, np.random.default_rng(1).random(len(x)) < 1 - x, tmp_path)
    monitor, pairing = running.monitor("world")
    look_until(monitor, config(signals=("quality", "shift")), Action.RETRAIN)
    monitor.look(config(signals=("quality", "shift")))
    pairing.stop()
    assert store.history()[-1].version == 2
    assert told(running, "world") == ["world: the world has changed"]
    assert [run["path"] for run in running.received.runs] == ["/api/v2/dags/world/dagRuns"]
    assert running.received.runs[0]["conf"]["asked_by"] == "monitor"


def test_the_process_watches_every_model_and_ends_when_asked(running: Stack) -> None:
    """`python -m ct.monitor` as `ct up` starts it: it looks, says so on disk, and leaves on SIGTERM."""
    store = running.release("process", "good", "good")
    running.roll_out(store, 2)
    with (running.home.logs / "monitor.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ct.monitor"],
            cwd=PROJECT,
            env={**os.environ, "CT_HOME": str(running.home.root)},
            stdout=log,
            stderr=log,
        )
    try:
        await_true(lambda: records_of(running.home, "process").status(), PATIENCE_S)
        status = records_of(running.home, "process").status()
        assert status is not None
        assert (status.watch.new, status.watch.previous) == (2, 1)  # type: ignore[union-attr]
        assert status.problems == ()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    shown = subprocess.run(
        [sys.executable, "-m", "ct.cli.main", "monitor", "process"],
        cwd=PROJECT,
        env={**os.environ, "CT_HOME": str(running.home.root)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "process: version 2 is watched against version 1" in shown
    assert "keep: version 2 is no worse than version 1 as far as the data tell" in shown
