"""Verdicts for tests that show them: a deciding comparison, slices of every kind, a bound, a check that is only on record."""

from __future__ import annotations

from ct.contracts import Check, CheckOutcome, Outcome, RefitAgreement, Verdict

JUDGED, TRAINED = "a" * 64, ("b" * 64, "c" * 64)
AGREEMENT = RefitAgreement(
    rows=4096,
    band=0.02,
    level_band=0.05,
    difference_band=0.2,
    auc=0.7003,
    twin_auc=0.6342,
    level_error=0.0162,
    twin_level_error=0.0409,
    mean_difference=0.0581,
)
AGREES = (
    "agrees with its twin on 4,096 rows: AUC 0.7003 against 0.6342, 0.02 worse is allowed; mean prediction 0.0162 from the "
    "share of positives against 0.0409, 0.05 worse is allowed; predictions 0.0581 apart on average, 0.2 is allowed"
)
"""What people read of AGREEMENT."""
WITHHELD = "its refit does not agree with it on 4,096 rows: <they differ>"


def comparison(
    where: str, difference: float, outcome: CheckOutcome, *, half: float = 0.01, blocking: bool = True
) -> Check:
    """The candidate against the champion on one slice."""
    margin = 0.0 if where == "overall" else -0.05
    return Check(
        name="auc better than the champion's by more than 0" if where == "overall" else "auc not worse by 0.05",
        metric="auc",
        slice=where,
        value=0.70 + difference,
        baseline=0.70,
        threshold=margin,
        outcome=outcome,
        blocking=blocking,
        difference=difference,
        low=difference - half,
        high=difference + half,
        level=0.95 if where == "overall" else 0.9983,
        method="DeLong",
        rows=28000 if where == "overall" else 900,
    )


def verdict_with(slices: int = 3, outcome: Outcome = Outcome.REFUSED) -> Verdict:
    """A verdict with so many slices; the first of them fails, every seventh cannot tell, the last is too small to count."""
    checks = [
        Check(
            name="auc at least 0.6",
            metric="auc",
            value=0.7031,
            baseline=0.7,
            threshold=0.6,
            outcome=CheckOutcome.PASS,
            low=0.6931,
            high=0.7131,
            level=0.95,
            method="DeLong",
            rows=28000,
        ),
        comparison("overall", 0.012, CheckOutcome.PASS, half=0.004),
        Check(name="model_mb at most 50", metric="model_mb", value=12.5, threshold=50, outcome=CheckOutcome.PASS),
        Check(
            name="brier, for the monitor",
            metric="brier",
            value=0.17,
            baseline=0.18,
            threshold=None,
            outcome=CheckOutcome.PASS,
            blocking=False,
            low=0.165,
            high=0.175,
            level=0.95,
            method="normal",
            rows=28000,
        ),
    ]
    for number in range(slices):
        found = CheckOutcome.PASS if number % 7 else CheckOutcome.INCONCLUSIVE
        difference, last = 0.002 * number - 0.01, number == slices - 1
        if number == 0:
            found, difference = CheckOutcome.FAIL, -0.08
        half = 0.3 if last else 0.02
        checks.append(comparison(f"carrier=C{number:02d}", difference, found, half=half, blocking=not last))
    return Verdict(
        outcome=outcome,
        reason="auc on carrier=C00 0.6200 against 0.7000 of version 6: worse by 0.0800 fails `auc not worse by 0.05`",
        checks=tuple(checks),
        champion_version=6,
        span="2013-06",
        rows=28000,
        holdout=False,
        alpha=0.05,
        judged_sha256=(JUDGED,),
        trained_sha256=TRAINED,
        seed=7,
    )
