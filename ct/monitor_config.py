"""pipeline.yaml's `monitor:`: what is watched after a rollout, and what may be done about it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ct.config_block import Block

SignalName = Literal["errors", "latency", "shift", "quality"]
News = Literal["approved", "refused", "inconclusive", "skipped", "failed", "asked"]
"""How a run may end; and that it waits for a person's answer."""
SIGNALS: tuple[SignalName, ...] = ("errors", "latency", "shift", "quality")


class ToleranceConfig(Block):
    """How much worse is not worse yet. A signal speaks when the whole interval lies beyond it."""

    errors: float = Field(default=0.01, ge=0, lt=1)
    """Share of failed requests (5xx) above the previous version's. One in a hundred is what clients' retries hide."""

    latency: float = Field(default=0.1, ge=0, lt=1)
    """Share of slow requests above the previous version's; slow is what at most 5 % of its requests were."""

    shift: float = Field(default=0.15, ge=0, lt=1)
    """Largest distance of the two versions' distributions of predictions on the same rows, 0 to 1. A model that learnt
    one more month moves by a few hundredths."""

    quality: float = Field(default=0.005, ge=0, lt=1)
    """Brier score above the previous version's on the same rows. Flights' score is about 0.17."""

    drift: float = Field(default=0.05, ge=0, lt=1)
    """How far a version may fall behind what the gate measured, in that metric's unit. Seasons move flights' AUC by 0.03, and
    the Brier score of always saying the month's share of late flights by 0.001 to 0.077 from a month to the next in 2013. A
    rare label has a small Brier score and wants less."""


class MonitorConfig(Block):
    """Watches the new version against the one that served before, and rolls back when only the new one is worse."""

    enabled: bool = True
    """Watch this model."""

    auto_rollback: bool = True
    """Roll back, or end a worse canary, without asking. False: say so and leave it to people."""

    retrain_on_drift: bool = True
    """Ask for a run when the world has changed. False: say so only."""

    alpha: float = Field(default=0.01, gt=0, lt=0.5)
    """Largest chance that a version which is no worse is rolled back, over its whole watch and however often one looks.
    It is split evenly over `signals`. The same chance, apart, holds for a false 'the world has changed' in a watch."""

    signals: tuple[SignalName, ...] = SIGNALS
    """What is compared with the previous version. Fewer signals share alpha among them, and each sees more."""

    min_rows: int = Field(default=100, ge=1)
    """Requests or rows below which no signal speaks, whatever its interval: the first ones after a swap may be special."""

    hours: float = Field(default=168.0, gt=0)
    """How long a version is watched against its predecessor. Longer than labels take; a week, because weekdays differ."""

    rows: int = Field(default=20_000, ge=100)
    """Labelled rows after which that watch ends sooner. By then a difference of 0.005 in the Brier score has shown."""

    tolerance: ToleranceConfig = Field(default_factory=ToleranceConfig)
    """How much worse is not worse yet."""

    notify: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,63}$")], ...] = ()
    """Names in CT_HOME/secrets/notify.yaml of whom to tell about rollbacks, alerts and runs. The addresses hold tokens, so they
    stand there and never here."""

    notify_runs: tuple[News, ...] = ("failed", "refused", "asked")
    """Which news of runs to tell: how one ended, and that one waits for `ct approve`. Every other is in `ct runs`."""
