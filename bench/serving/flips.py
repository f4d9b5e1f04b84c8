"""Rollbacks back and forth under steady load: how long each takes until every worker answers, and what fails meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.serving.model import MODEL, SERVED, VERSIONS, change
from bench.serving.process import clean_environment
from bench.serving.steady import WARM_UP_S
from ct.rollout import plan_rollback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.serving.steady import Steady
    from bench.serving.turns import Contestant
    from bench.serving.vegeta import Attack, Vegeta
    from ct.home import Home
    from ct.rollout import ModelStore

SHARE_OF_PEAK = 0.7
BEGIN_EVERY_S = 0.1
"""A flip begins so long after the one before, or at once when that one took longer."""
COMMANDS = 5
MS_A_S = 1e3


@dataclass(frozen=True)
class Flips:
    """What became of all of them."""

    flips_ms: Sequence[float]
    """Of `apply`, without a registry: from before the desired state is written until every worker has answered with it."""
    load: Steady
    """What clients saw during the flips and the commands."""
    commands_ms: Sequence[float]
    """Of whole `ct rollback` commands under the same load."""
    idle_commands_ms: Sequence[float]
    """The same without load."""


def flip(
    ours: Contestant,
    store: ModelStore,
    home: Home,
    vegeta: Vegeta,
    *,
    peak_a_second: float,
    count: int,
    say: Callable[[str], None],
) -> Flips:
    """Flip `count` times under load, then run some commands, with the load and without.

    Raises:
        RolloutError: a worker did not take a version.
        BenchError: no worker answers, vegeta failed, or a command did.
    """
    rate = max(1, round(SHARE_OF_PEAK * peak_a_second))
    say(f"{count} rollbacks under {rate} requests/s")
    targets = cycle([version for version in VERSIONS if version != SERVED] + [SERVED])
    with vegeta.attacking(ours.url, ours.bodies, rate=rate) as attack:
        attack.lasts(WARM_UP_S)
        flips_ms = list(_paced(attack, store, islice(targets, count)))
        commands_ms = [_command_ms(home, next(targets)) for _ in range(COMMANDS)]
    idle_commands_ms = [_command_ms(home, next(targets)) for _ in range(COMMANDS)]
    load = attack.report()
    say(f"{load.requests:,} requests meanwhile, {load.failed} failed")
    return Flips(flips_ms, load, commands_ms, idle_commands_ms)


def _paced(attack: Attack, store: ModelStore, targets: Iterator[int]) -> Iterator[float]:
    for to in targets:
        began = time.monotonic()
        yield _flip_ms(store, to)
        attack.lasts(began + BEGIN_EVERY_S - time.monotonic())


def _flip_ms(store: ModelStore, to: int) -> float:
    plan = plan_rollback(MODEL, to, quarantine=False, **store.facts(len(VERSIONS)))
    began = time.perf_counter()
    applied = change(store, plan, "flip under load")
    took_ms = (time.perf_counter() - began) * MS_A_S
    if applied.workers == 0:
        raise BenchError("a flip was applied, and no serving worker was there to answer with it")
    return took_ms


def _command_ms(home: Home, to: int) -> float:
    command = [str(Path(sys.executable).with_name("ct")), "rollback", MODEL, "--to", str(to), "--keep", "--json"]
    environment = {**clean_environment(), "CT_HOME": str(home.root)}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    took_ms = (time.perf_counter() - began) * MS_A_S
    if done.returncode != 0 or json.loads(done.stdout)["workers"] == 0:
        raise BenchError(f"`{' '.join(command[1:])}` exited with {done.returncode}: {done.stdout}{done.stderr}")
    return took_ms
