"""`ct labels` and `ct monitor`, as people call them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from monitor_parts import KEEP, T0, NoRegistry, log_rows

from ct.contracts import Canary
from ct.monitor.decide import Action, Decision
from ct.monitor.monitor import records_of
from ct.monitor.records import Status
from ct.monitor.signals import Signal
from ct.monitor.watch import Watch
from ct.rollout import apply, plan_canary

if TYPE_CHECKING:
    from pathlib import Path

    from ct.home import Home
    from ct.rollout import ModelStore

SIGNAL = Signal(
    name="errors",
    value=0.3,
    reference=0.001,
    worse_by=0.299,
    low=0.19,
    high=0.42,
    tolerance=0.01,
    rows=300,
    enough=100,
    alpha=0.0025,
    note="share of requests answered with 5xx",
)


def ct(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run(
        [sys.executable, "-m", "ct.cli.main", *arguments],
        env={**os.environ, "CT_HOME": str(home.root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def say(home: Home, **changes: Any) -> None:
    """What the monitor said last."""
    values: dict[str, Any] = {
        "model": "flights",
        "at": T0,
        "watch": Watch(generation=2, new=2, previous=1, since=T0 - timedelta(hours=1)),
        "signals": (SIGNAL,),
        "decision": Decision(action=Action.ROLLBACK, reason="version 2 is worse"),
    }
    status = Status(**{**values, **changes})
    records_of(home, "flights", status.watch.variant if status.watch else "champion").say(status)


def test_labels_are_taken_by_the_models_own_column(home: Home, store: ModelStore, tmp_path: Path) -> None:
    """The serving version's label names it; what came of the file is said."""
    log_rows(home, "flights", 2, [0.5], T0, "a")
    path = tmp_path / "labels.csv"
    path.write_text("request_id,late\na-0,1\nunknown,0\n")
    done = ct(home, "labels", "flights", str(path))
    assert done.stdout.splitlines()[0] == "flights: 2 labels are new, 0 corrected, 0 known already"
    assert "1 are of rows that the prediction log does not have" in done.stdout
    again = json.loads(ct(home, "labels", "flights", str(path), "--json").stdout)
    assert again == {"name": "flights", "column": "late", "new": 0, "corrected": 0, "known": 2, "unlogged": 1}


def test_a_wrong_label_ends_the_command_with_the_line(home: Home, store: ModelStore, tmp_path: Path) -> None:
    """Exit code 1, and nothing was taken."""
    path = tmp_path / "labels.csv"
    path.write_text("request_id,late\na,2\n")
    done = ct(home, "labels", "flights", str(path))
    assert done.returncode == 1
    assert "line 2: late is '2', and must be 0 or 1" in done.stderr


def test_monitor_shows_each_signal_with_its_interval(home: Home, store: ModelStore) -> None:
    """What is watched, what was found, what is done about it, and what goes wrong."""
    say(home, problems=("serving did not answer",))
    shown = ct(home, "monitor", "flights").stdout
    assert "flights: version 2 is watched against version 1 since 2026-01-05 11:00:00 UTC" in shown
    assert "0.19 .. 0.42" in shown
    assert "worse" in shown
    assert "rollback: version 2 is worse" in shown
    assert "problem: serving did not answer" in shown


def test_monitor_tells_scripts_the_same(home: Home, store: ModelStore) -> None:
    """One document, with the state of each signal."""
    say(home)
    shown = json.loads(ct(home, "monitor", "flights", "--json").stdout)
    assert (shown["signals"][0]["state"], shown["signals"][0]["low"]) == ("worse", 0.19)
    assert (shown["decision"]["action"], shown["watch"]["previous"], shown["decisions"]) == ("rollback", 1, [])


def test_monitor_shows_a_canary_beside_what_serves(home: Home, store: ModelStore) -> None:
    """Each with its own signals; scripts find it under `canary`, which is null while none goes."""
    say(home, decision=Decision(action=Action.KEEP, reason="version 2 is fine"))
    assert json.loads(ct(home, "monitor", "flights", "--json").stdout)["canary"] is None
    canary = Canary(version=3, share=0.1, key="header:ct-key")
    say(home, watch=Watch(generation=3, canary=canary, new=3, previous=2, since=T0))
    assert "canary" not in ct(home, "monitor", "flights").stdout, "it has ended since, while nobody looked"
    apply(
        plan_canary("flights", canary, **store.facts(KEEP)),
        store,
        NoRegistry(),
        actor="t",
        reason="t",
        clock=lambda: T0,
    )
    shown = ct(home, "monitor", "flights").stdout
    assert "flights: version 2 is watched against version 1" in shown
    assert "flights: canary version 3 is watched against version 2" in shown
    assert json.loads(ct(home, "monitor", "flights", "--json").stdout)["canary"]["watch"]["new"] == 3


def test_a_monitor_that_never_looked_says_so(home: Home, store: ModelStore) -> None:
    """With what starts it."""
    done = ct(home, "monitor", "flights")
    assert done.returncode == 2
    assert "has not looked at" in done.stderr
    assert "ct up" in done.stderr
