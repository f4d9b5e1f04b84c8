"""The policy: a pure function from scored rows to a verdict that says every number it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ct.contracts import Check, CheckOutcome, Outcome, Verdict
from ct.gate.checks import (
    bound_check,
    comparison_check,
    gap_check,
    is_comparison,
    size_check,
    slice_check,
    threshold_check,
)
from ct.gate.intervals import Resampling, measure
from ct.gate.metrics import BRIER
from ct.gate.reason import reason_of
from ct.gate.recorded import brier_check
from ct.gate.scores import OVERALL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ct.gate.measured import Measured
    from ct.gate.scores import Scores
    from ct.gate_config import GateConfig


def judge(
    *,
    config: GateConfig,
    scores: Scores,
    champion_version: int | None,
    span: str,
    holdout_days: int | None,
    seed: int,
    others: Mapping[str, Measured] | None = None,
    model_mb: float | None = None,
    champion_mb: float | None = None,
    no_comparison: str | None = None,
    judged_sha256: Sequence[str] = (),
    trained_sha256: Sequence[str] = (),
    further: Sequence[Check] = (),
) -> Verdict:
    """Decide whether a candidate is approved, refused, or whether the data cannot tell.

    It is approved when every blocking check passes, refused when one fails, and inconclusive otherwise. All checks must
    hold, so a candidate that should not pass one of them passes all with no greater chance than that one: several checks
    need no correction. Slices do, because any of them may refuse: each is compared at alpha over their number.

    The Brier score of all rows is always on record, for the monitor; where no rule asks for it, it has no say.

    The same rows, settings and seed give the same verdict.

    Args:
        config: the gate block of pipeline.yaml.
        scores: the rows that neither model has learnt from, with what both say of them.
        champion_version: the version that serves; None when nothing does.
        span: name of the span that the rows are from; several joined by `+`.
        holdout_days: how many held-out days of an only span they are; None for whole spans.
        seed: of the bootstrap.
        others: metrics of `evaluate.metrics`, as TFMA measured them; each that `config` names.
        model_mb: size of the candidate's SavedModel.
        champion_mb: the same of the champion's.
        no_comparison: why the two cannot be compared fairly, where they cannot. Then comparisons are recorded as
            inconclusive, whatever they say.
        judged_sha256: hashes of the spans that the rows are from.
        trained_sha256: hashes of the spans that the candidate learnt from.
        further: checks that others made.
    """
    measuring = _Measuring(Resampling(config.replicates, seed), others or {})
    checks = list(_checks(config, scores, measuring, compare=champion_version is not None))
    if config.guards.model_mb is not None and model_mb is not None:
        checks.append(size_check(model_mb, champion_mb, config.guards.model_mb))
    checks.extend(further)
    if not _bounds_brier(config):
        checks.append(brier_check(scores, level_of(config)))
    if no_comparison is not None:
        checks = [_set_aside(check) for check in checks]
    outcome = _outcome(checks)
    return Verdict(
        outcome=outcome,
        reason=reason_of(checks, champion_version, no_comparison),
        checks=tuple(checks),
        champion_version=champion_version,
        span=span,
        rows=scores.rows,
        holdout=holdout_days is not None,
        holdout_days=holdout_days,
        alpha=config.alpha,
        judged_sha256=tuple(judged_sha256),
        trained_sha256=tuple(trained_sha256),
        seed=seed,
    )


def level_of(config: GateConfig) -> float:
    """Confidence level of an overall comparison.

    With `inconclusive: wait` the same rows are looked at up to `wait_spans` times, so each look gets its part of alpha.
    """
    return 1 - _alpha_a_look(config)


@dataclass(frozen=True)
class _Measuring:
    """How a metric is measured: TFMA's were, the gate's own are."""

    resampling: Resampling
    others: Mapping[str, Measured]

    def measure(self, metric: str, rows: Scores, level: float, *, relative: bool = False) -> Measured:
        if metric in self.others:
            return self.others[metric].as_share() if relative else self.others[metric]
        return measure(metric, rows, level, self.resampling, relative=relative)


def _checks(config: GateConfig, scores: Scores, measuring: _Measuring, *, compare: bool) -> Iterator[Check]:
    level = level_of(config)
    overall = measuring.measure(config.metric, scores, level, relative=config.relative)
    yield threshold_check(config.metric, overall, config.threshold)
    if not np.isfinite(scores.candidate).all():
        yield _not_finite(scores)
    if compare:
        yield comparison_check(config.metric, overall, config.min_improvement, relative=config.relative)
    for rule in config.checks:
        found = measuring.measure(rule.metric, scores, level, relative=rule.relative)
        if rule.at_least is not None:
            yield bound_check(rule.metric, found, rule.at_least, at_most=False)
        if rule.at_most is not None:
            yield bound_check(rule.metric, found, rule.at_most, at_most=True)
        if rule.min_improvement is not None and compare:
            yield comparison_check(rule.metric, found, rule.min_improvement, relative=rule.relative)
    slices = {name: rows for feature in scores.slices for name, rows in scores.by_slice(feature).items()}
    if compare:
        yield from _slice_checks(config, slices, measuring)
    for fairness in config.fairness:
        values = {name: rows for name, rows in slices.items() if name.startswith(f"{fairness.feature}=")}
        large = _large(config, values)
        corrected = 1 - _alpha_a_look(config) / max(1, len(large))
        yield gap_check(
            fairness, {name: measuring.measure(fairness.metric, rows, corrected) for name, rows in large.items()}
        )


def _slice_checks(config: GateConfig, slices: Mapping[str, Scores], measuring: _Measuring) -> Iterator[Check]:
    """A slice has a say only when it is large enough, and only by being surely worse."""
    large = _large(config, slices)
    level = 1 - _alpha_a_look(config) / max(1, len(large))
    for name, rows in slices.items():
        found = measuring.measure(config.metric, rows, level)
        yield slice_check(config.metric, found, config.slices.max_drop, name, has_say=name in large)


def _bounds_brier(config: GateConfig) -> bool:
    """Whether a rule puts the value itself and its interval on record; a comparison has the interval of the difference."""
    bounded = (rule.metric for rule in config.checks if rule.at_least is not None or rule.at_most is not None)
    return BRIER in (config.metric, *bounded)


def _large(config: GateConfig, slices: Mapping[str, Scores]) -> dict[str, Scores]:
    return {name: rows for name, rows in slices.items() if rows.rows >= config.slices.min_rows}


def _alpha_a_look(config: GateConfig) -> float:
    return config.alpha / config.wait_spans if config.inconclusive == "wait" else config.alpha


def _not_finite(scores: Scores) -> Check:
    return Check(
        name="every prediction is a finite number",
        metric="predictions that are none",
        value=float(np.count_nonzero(~np.isfinite(scores.candidate))),
        threshold=0.0,
        outcome=CheckOutcome.FAIL,
        rows=scores.rows,
    )


def _set_aside(check: Check) -> Check:
    """A comparison that is not fair decides nothing, and what it would say stays on record."""
    if not is_comparison(check):
        return check
    return check.model_copy(update={"outcome": CheckOutcome.INCONCLUSIVE, "blocking": check.slice == OVERALL})


def _outcome(checks: Sequence[Check]) -> Outcome:
    found = {check.outcome for check in checks if check.blocking}
    if CheckOutcome.FAIL in found:
        return Outcome.REFUSED
    return Outcome.INCONCLUSIVE if CheckOutcome.INCONCLUSIVE in found else Outcome.APPROVED
