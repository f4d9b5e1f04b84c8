"""The block `validate:` of pipeline.yaml: what the findings of TFDV do to a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ct.config_block import Block

Action = Literal["block", "warn", "ignore"]
"""`block` ends the run before training, `warn` records and goes on, `ignore` says nothing."""


class AnomalyConfig(Block):
    """What becomes of data that breaks schema.pbtxt."""

    action: Action = "block"
    """`block` ends the run before training, `warn` records and goes on, `ignore` says nothing."""

    by_type: dict[str, Action] = Field(default_factory=dict)
    """TFDV's type of anomaly -> its own action, for example `ENUM_TYPE_UNEXPECTED_STRING_VALUES: warn` for new values."""


Distance = Annotated[float, Field(gt=0, le=1)]


class DistanceConfig(Block):
    """From which distance on two distributions of a feature count as different. 0 is alike, 1 as different as can be."""

    action: Action = "warn"
    """`block`, `warn` or `ignore`. Data may change for good reasons, so the default records and goes on."""

    categorical: Distance = 0.1
    """L-infinity distance of a BYTES feature: the largest change of one value's share. Between neighbouring months of flights
    it is 0.024 at most (`origin`)."""

    numeric: Distance = 0.3
    """Jensen-Shannon divergence of an INT or FLOAT feature. Between neighbouring months of flights it is 0.03 at most, of the
    weather, which the season moves, 0.46 (`precip`)."""

    by_feature: dict[str, Distance] = Field(default_factory=dict)
    """Feature -> its own threshold; 1 never says anything. A comparator in schema.pbtxt counts before both defaults."""


class SkewConfig(DistanceConfig):
    """The newest span compared with what serving logged."""

    min_rows: int = Field(default=1000, ge=1)
    """Fewer logged rows are not compared: at 1,000 chance alone moves a value's share by about 0.03."""


class ValidateConfig(Block):
    """What TFDV's findings do to a run."""

    anomalies: AnomalyConfig = Field(default_factory=AnomalyConfig)
    """Data that breaks schema.pbtxt."""

    drift: DistanceConfig = Field(default_factory=DistanceConfig)
    """The newest span compared with the one before it in the window."""

    skew: SkewConfig = Field(default_factory=SkewConfig)
    """The newest span compared with what serving logged."""
