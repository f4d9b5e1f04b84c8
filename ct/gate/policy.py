"""The policy: a pure function from metrics to a verdict that says every number it rests on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ct.contracts import Check, CheckOutcome, Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct.config import GateConfig

    Metrics = Mapping[str, Mapping[str, float]]

OVERALL = "overall"


def judge(
    *,
    config: GateConfig,
    candidate: Metrics,
    champion: Metrics | None,
    champion_version: int | None,
    span: str,
    rows: int,
    holdout: bool,
) -> Verdict:
    """Decide whether a candidate is approved.

    It is, when its overall metric reaches the threshold and exceeds the champion's by more than `min_improvement` on the
    same rows. Slices are recorded, they do not block. A metric without a value (a slice with one class has no AUC) fails
    an overall check and is recorded as it is on a slice.

    Args:
        config: the gate block of pipeline.yaml.
        candidate: slice -> metric -> value; `overall`, and `feature=value` for each slice.
        champion: the same of the version that serves, on the same rows; None when nothing serves.
        champion_version: that version.
        span: name of the span that the rows are from.
        rows: how many.
        holdout: whether they are the held-out days of an only span.
    """
    checks = [_reaches_threshold(config, candidate)]
    if champion is not None:
        checks.append(_beats_champion(config, candidate, champion, OVERALL, blocking=True))
        slices = [name for name in candidate if name != OVERALL and name in champion]
        checks.extend(_beats_champion(config, candidate, champion, name, blocking=False) for name in slices)
    failed = [check for check in checks if check.blocking and check.outcome is CheckOutcome.FAIL]
    return Verdict(
        outcome=Outcome.REFUSED if failed else Outcome.APPROVED,
        reason=_refusal(failed, champion_version) if failed else _approval(checks, champion_version),
        checks=tuple(checks),
        champion_version=champion_version,
        span=span,
        rows=rows,
        holdout=holdout,
    )


def _reaches_threshold(config: GateConfig, candidate: Metrics) -> Check:
    value = _defined(candidate, OVERALL, config.metric)
    return Check(
        name=f"{config.metric} at least {config.threshold:g}",
        metric=config.metric,
        value=value,
        threshold=config.threshold,
        outcome=_outcome(value is not None and value >= config.threshold),
    )


def _beats_champion(config: GateConfig, candidate: Metrics, champion: Metrics, name: str, *, blocking: bool) -> Check:
    value, baseline = _defined(candidate, name, config.metric), _defined(champion, name, config.metric)
    margin = config.min_improvement
    wording = (
        f"above the champion's by more than {margin:g}" if margin >= 0 else f"not below the champion's by {-margin:g}"
    )
    return Check(
        name=f"{config.metric} {wording}",
        metric=config.metric,
        slice=name,
        value=value,
        baseline=baseline,
        threshold=margin,
        outcome=_outcome(value is not None and baseline is not None and value - baseline > margin),
        blocking=blocking,
    )


def _outcome(passed: bool) -> CheckOutcome:  # noqa: FBT001  the one thing it maps
    return CheckOutcome.PASS if passed else CheckOutcome.FAIL


def _defined(metrics: Metrics, name: str, metric: str) -> float | None:
    value = metrics.get(name, {}).get(metric)
    return value if value is not None and math.isfinite(value) else None


def _approval(checks: list[Check], champion_version: int | None) -> str:
    first = checks[0]
    if champion_version is None:
        return f"{first.metric} {first.value:.4f} reaches {first.threshold:g}; nothing serves yet to compare with"
    against = checks[1]
    passed = f"{first.metric} {first.value:.4f} passes `{first.name}` and `{against.name}`"
    return f"{passed} (version {champion_version}: {against.baseline:.4f})"


def _refusal(failed: list[Check], champion_version: int | None) -> str:
    return "; ".join(_failure(check, champion_version) for check in failed)


def _failure(check: Check, champion_version: int | None) -> str:
    if check.value is None:
        return f"{check.metric} has no value on these rows, so nothing can be said"
    against = "" if check.baseline is None else f" (version {champion_version}: {check.baseline:.4f})"
    return f"{check.metric} {check.value:.4f} fails the check `{check.name}`{against}"
