"""Many pairs through the gate's own policy, a share of them in each process."""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.gate.pairs import CHAMPION_AUC, CORRELATION, ROWS, Design, draw
from ct.contracts import Outcome
from ct.gate import judge
from ct.gate_config import GateConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ALPHA = 0.05
SEED = 20130101
MARGIN = -0.005
"""Of the non-inferiority arm, as flights has it."""
GAINS = (0.002, 0.005, 0.01, 0.02)
"""Planted improvements of AUC."""
REPLICATES, BOOTSTRAP_ROWS = 400, 9_000
"""Of the bootstrap in each pair. A tail holds ten replicates; a third of the rows, because a thousand bootstraps take long."""
RARE = Design(gain=-0.01, rows=1_010, champion_auc=0.99, correlation=0.5, positives=10)
"""Few positive rows and very good models, worse by the margin exactly: DeLong's variance alone lets 19 % of these pass."""
RARE_PAIRS = 400
STANDARD_ERRORS = 3
"""By which so few pairs may exceed alpha by chance."""
PAIRS_AT_ONCE = 25
OUTCOMES = [outcome.value for outcome in Outcome]


@dataclass(frozen=True)
class Arm:
    """One question: of pairs like these, which share passes this gate?"""

    name: str
    design: Design
    config: GateConfig
    is_null: bool
    """Whether no pair should pass."""


def arms() -> tuple[Arm, ...]:
    """Equal models by each kind of interval, the edge of a margin, and planted improvements."""
    auc = GateConfig(metric="auc", threshold=0.6, alpha=ALPHA)
    bootstrap = {"threshold": 1.0, "alpha": ALPHA, "replicates": REPLICATES}
    nulls = (
        Arm("auc (DeLong)", Design(), auc, is_null=True),
        Arm(
            "log_loss (bootstrap)",
            Design(rows=BOOTSTRAP_ROWS),
            GateConfig(metric="log_loss", **bootstrap),
            is_null=True,
        ),
        Arm(
            f"auc, worse by {-MARGIN:g}, margin {MARGIN:g}",
            Design(gain=MARGIN),
            auc.model_copy(update={"min_improvement": MARGIN}),
            is_null=True,
        ),
    )
    planted = tuple(Arm(f"{gain:+g}", Design(gain=gain), auc, is_null=False) for gain in GAINS)
    return (*nulls, *planted)


def rare_arm() -> Arm:
    """The edge of a margin where rows of a class are rare."""
    config = GateConfig(metric="auc", threshold=0.6, alpha=ALPHA, min_improvement=RARE.gain)
    return Arm("rare label", RARE, config, is_null=True)


def simulate(pairs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Every arm with so many pairs, as the JSON that is written."""
    began = time.monotonic()
    shares = {}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for number, arm in enumerate(arms()):
            shares[arm.name] = _shares(arm, pairs, number, pool)
            say(f"{arm.name}: {shares[arm.name]['approved']:.1%} of {pairs:,} pairs pass")
        rare_pairs = min(pairs, RARE_PAIRS)
        rare = _shares(rare_arm(), rare_pairs, len(arms()), pool)
        say(f"{rare_arm().name}: {rare['approved']:.1%} of {rare_pairs:,} pairs pass")
    approved = Outcome.APPROVED.value
    false_pass = {arm.name: shares[arm.name][approved] for arm in arms() if arm.is_null}
    return {
        "pairs": pairs,
        "alpha": ALPHA,
        "false_pass": max(false_pass.values()),
        "power": {arm.name: shares[arm.name][approved] for arm in arms() if not arm.is_null},
        "false_pass_of": false_pass,
        "outcomes": shares,
        "rows": ROWS,
        "champion_auc": CHAMPION_AUC,
        "correlation": CORRELATION,
        "seed": SEED,
        "rare_label": {
            "pairs": rare_pairs,
            "alpha": ALPHA,
            "false_pass": rare[approved],
            "most": ALPHA + STANDARD_ERRORS * math.sqrt(ALPHA * (1 - ALPHA) / rare_pairs),
            "outcomes": rare,
            "positives": RARE.positives,
            "rows": RARE.rows,
            "champion_auc": RARE.champion_auc,
            "margin": RARE.gain,
            "correlation": RARE.correlation,
        },
        "seconds": round(time.monotonic() - began, 1),
    }


def _shares(arm: Arm, pairs: int, number: int, pool: ProcessPoolExecutor) -> dict[str, float]:
    """Which share of so many pairs had each outcome; `number` is the arm's, and seeds it."""
    seeds = np.random.SeedSequence([SEED, number]).spawn(pairs)
    parts = [seeds[begin : begin + PAIRS_AT_ONCE] for begin in range(0, pairs, PAIRS_AT_ONCE)]
    counts = np.sum(list(pool.map(partial(_outcomes, arm), parts)), axis=0)
    return dict(zip(OUTCOMES, (counts / pairs).tolist(), strict=True))


def _outcomes(arm: Arm, seeds: Sequence[np.random.SeedSequence]) -> np.ndarray:
    """How many pairs had each outcome, in the order of OUTCOMES."""
    counts = np.zeros(len(OUTCOMES), np.int64)
    for seed in seeds:
        numbers = np.random.default_rng(seed)
        verdict = judge(
            config=arm.config,
            scores=draw(arm.design, numbers),
            champion_version=1,
            span="simulated",
            holdout_days=None,
            seed=int(numbers.integers(2**31)),
        )
        counts[OUTCOMES.index(verdict.outcome.value)] += 1
    return counts
