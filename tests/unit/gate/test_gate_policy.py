"""What the gate decides, and that it says why."""

from __future__ import annotations

import pytest

from ct.config import GateConfig
from ct.contracts import Outcome, Verdict
from ct.gate import judge

STRICT = GateConfig(metric="auc", threshold=0.6, min_improvement=0.0)
LENIENT = GateConfig(metric="auc", threshold=0.6, min_improvement=-0.005)


def decide(
    config: GateConfig, candidate: float, champion: float | None = None, **slices: tuple[float, float]
) -> Verdict:
    """The verdict on an overall AUC, and on slices as (candidate, champion)."""
    new = {"overall": {"auc": candidate}, **{name: {"auc": pair[0]} for name, pair in slices.items()}}
    old = None
    if champion is not None:
        old = {"overall": {"auc": champion}, **{name: {"auc": pair[1]} for name, pair in slices.items()}}
    return judge(
        config=config,
        candidate=new,
        champion=old,
        champion_version=None if champion is None else 6,
        span="2013-04",
        rows=100,
        holdout=False,
    )


@pytest.mark.parametrize(
    ("config", "candidate", "champion", "outcome"),
    [
        (STRICT, 0.61, None, Outcome.APPROVED),
        (STRICT, 0.60, None, Outcome.APPROVED),
        (STRICT, 0.59, None, Outcome.REFUSED),
        (STRICT, 0.71, 0.70, Outcome.APPROVED),
        (STRICT, 0.70, 0.70, Outcome.REFUSED),
        (STRICT, 0.69, 0.70, Outcome.REFUSED),
        (STRICT, 0.59, 0.50, Outcome.REFUSED),
        (LENIENT, 0.698, 0.70, Outcome.APPROVED),
        (LENIENT, 0.694, 0.70, Outcome.REFUSED),
    ],
)
def test_threshold_and_champion_decide(
    config: GateConfig, candidate: float, champion: float | None, outcome: Outcome
) -> None:
    """The threshold is inclusive, the champion must be exceeded by more than the margin, and both must hold."""
    assert decide(config, candidate, champion).outcome is outcome


def test_a_refusal_names_the_check_the_values_and_the_version() -> None:
    """A person can act on the reason without opening anything."""
    reason = decide(STRICT, 0.69, 0.70).reason
    assert "0.6900" in reason
    assert "version 6: 0.7000" in reason
    assert "above the champion's" in reason


def test_every_number_is_on_record() -> None:
    """Each check carries value, baseline and threshold; slices are recorded and do not block."""
    verdict = decide(STRICT, 0.71, 0.70, **{"carrier=UA": (0.5, 0.9)})
    assert verdict.outcome is Outcome.APPROVED
    by_slice = {(check.slice, check.blocking): (check.value, check.baseline) for check in verdict.checks}
    assert by_slice[("carrier=UA", False)] == (0.5, 0.9)
    assert verdict.champion_version == 6


def test_a_metric_without_a_value_refuses() -> None:
    """NaN is never better than anything, and the reason says that nothing can be said."""
    verdict = decide(STRICT, float("nan"), 0.7)
    assert verdict.outcome is Outcome.REFUSED
    assert "has no value" in verdict.reason
