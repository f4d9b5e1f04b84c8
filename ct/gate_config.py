"""pipeline.yaml's `gate:`: when a candidate is approved, and who has a say in it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ct.config_block import Block

BUILT_IN = ("auc", "binary_accuracy", "log_loss", "brier", "calibration")
"""Metrics with an interval of their own; any other name must stand in `evaluate.metrics` and is TFMA's. log_loss and brier are
better when lower, calibration (mean predicted probability over the share of positive rows) when nearer to 1."""
SHARES = ("auc", "binary_accuracy", "brier")
DECIDING = (*SHARES, "log_loss")
"""Those that may be the gate's own `metric`; SHARES lie between 0 and 1. Calibration alone would let a model pass that tells no
two rows apart."""


class CheckConfig(Block):
    """One rule on one metric: a bound of the candidate's own value, a comparison with the champion, or both."""

    metric: str
    """One of BUILT_IN, or the name of a metric in `evaluate.metrics`."""

    at_least: float | None = None
    """The least value the candidate may have."""

    at_most: float | None = None
    """The greatest value the candidate may have."""

    min_improvement: float | None = None
    """By how much the candidate must be better than the champion on the same rows, in the metric's own direction. Negative is
    a margin of non-inferiority: -0.005 is 'not worse by more than 0.005'."""

    relative: bool = False
    """Whether `min_improvement` is a share of the champion's value: 0.01 is one per cent better. Not of calibration, whose
    distance from 1 may be 0."""

    @model_validator(mode="after")
    def _says_something(self) -> CheckConfig:
        if self.at_least is None and self.at_most is None and self.min_improvement is None:
            raise ValueError("checks nothing: give `at_least`, `at_most`, `min_improvement`, or several of them")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"no value is at least {self.at_least:g} and at most {self.at_most:g}")
        if self.relative and self.min_improvement is None:
            raise ValueError("`relative` is of `min_improvement`, which is not given; bounds are of the value itself")
        if self.relative and self.metric == "calibration":
            raise ValueError("`relative` has no meaning for calibration: the champion's distance from 1 may be 0")
        return self


class SlicesConfig(Block):
    """What happens on single slices (`evaluate.slices`), with a correction for how many there are."""

    max_drop: float = Field(default=0.05, ge=0)
    """A slice blocks when the candidate's `metric` is surely worse than the champion's by more than this."""

    min_rows: int = Field(default=500, ge=1)
    """Slices with fewer rows are recorded and have no say."""


class FairnessConfig(Block):
    """How far a metric may differ between the values of one feature."""

    feature: str
    """One of `evaluate.slices`."""

    metric: str = "auc"
    """One of BUILT_IN."""

    max_gap: float = Field(gt=0)
    """Largest difference between the best and the worst slice that has `slices.min_rows` rows."""


class GuardsConfig(Block):
    """Limits beside quality. Latency and memory are measured on the very service that will serve, champion beside candidate."""

    model_mb: float | None = Field(default=None, gt=0)
    """Largest size of the SavedModel's folder."""

    latency_ratio: float = Field(default=2.0, gt=1)
    """The candidate's p99 may be so many times the champion's."""

    memory_ratio: float = Field(default=2.0, gt=1)
    """So may the resident memory that loading it adds."""


class ApprovalConfig(Block):
    """A person's say, after the gate's and before the rollout. Answered in Airflow's UI, over REST, or by `ct approve`."""

    mode: Literal["auto", "manual"] = "auto"
    """`manual`: a person is asked about each candidate that passes; `inconclusive: ask`: about those the data cannot tell."""

    timeout_s: float = Field(default=86400.0, gt=0)
    """How long to wait for an answer. Waiting costs no worker slot."""

    default: Literal["reject", "approve"] = "reject"
    """The answer when nobody answers in time."""


class GateConfig(Block):
    """When a candidate is approved: `metric` at least `threshold`, and better than the champion's on the same rows."""

    metric: str = "auc"
    """The metric that decides; one of DECIDING."""

    threshold: float
    """The least value a candidate may have; of log_loss and brier, which are better when lower, the greatest. Required: a gate
    without a threshold approves anything."""

    min_improvement: float = 0.0
    """The candidate must be better than the champion by more than this; the whole interval must be. Negative is a margin."""

    relative: bool = False
    """Whether `min_improvement` is a share of the champion's value."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Largest chance that a candidate which is not better passes a comparison. Intervals are two-sided with level 1 - alpha."""

    replicates: int = Field(default=2000, ge=200)
    """Of the paired bootstrap, for metrics other than auc."""

    inconclusive: Literal["keep", "wait", "ask"] = "keep"
    """When the data cannot tell: keep the champion; keep it and judge the next candidate on these rows and the next span's
    together; or ask a person. With `wait` each of up to `wait_spans` looks at the rows gets its part of alpha."""

    wait_spans: int = Field(default=3, ge=2)
    """With `inconclusive: wait`, spans that are judged on together at most."""

    checks: tuple[CheckConfig, ...] = ()
    """Further rules; all must hold."""

    refit_band: float = Field(default=0.02, gt=0)
    """How much worse a refit may be in AUC than its twin that was judged. It carries the twin's verdict, so it must not be
    another model; see ct/training/refit.py."""

    refit_level: float = Field(default=0.05, gt=0)
    """How much further than its twin's a refit's mean prediction may be from the share of positive labels. Seasons move that
    share: on flights the twins of 2013 were wrong by up to 0.13 in a month, and the refits by 0.1 less to 0.02 more."""

    refit_difference: float = Field(default=0.2, gt=0)
    """How far a refit's predictions may be from its twin's: the mean absolute difference of probabilities. It has learnt from a
    span more, so they do differ, on flights by 0.025 to 0.101 in the months of 2013, and the default is twice the most. A label
    that is rarer than late flights asks for less."""

    slices: SlicesConfig = Field(default_factory=SlicesConfig)
    fairness: tuple[FairnessConfig, ...] = ()
    guards: GuardsConfig = Field(default_factory=GuardsConfig)
    approval: ApprovalConfig = Field(default_factory=ApprovalConfig)

    @model_validator(mode="after")
    def _can_decide(self) -> GateConfig:
        """A bound that every model keeps, or none, is no gate, and hardly what anybody meant."""
        if self.metric in SHARES and not 0 < self.threshold < 1:
            raise ValueError(f"threshold {self.threshold:g} decides nothing: {self.metric} lies between 0 and 1")
        if self.metric in SHARES and not self.relative and not -1 < self.min_improvement < 1:
            raise ValueError(
                f"min_improvement {self.min_improvement:g} decides nothing: {self.metric} lies between 0 and 1"
            )
        if self.metric == "log_loss" and self.threshold <= 0:
            raise ValueError(f"threshold {self.threshold:g} refuses everything: log_loss is above 0")
        return self
