"""pipeline.yaml's `retention:`: how much of the past `ct gc` leaves."""

from __future__ import annotations

from pydantic import Field

from ct.config_block import Block


class RetentionConfig(Block):
    """What stays although nothing serves it. What serves, is warm, pinned or quarantined stays in any case."""

    versions: int = Field(default=20, ge=1)
    """Newest versions whose files stay, refused ones too, and as many of those that served: more than a year of months, or
    three weeks of days. MLflow's record of the others stays."""

    runs_days: float = Field(default=30.0, ge=0)
    """Days that a run's folder and TFX artifacts stay after it has ended, and an unused spec after it was deployed: long enough
    to clear a task again, or to ask why last month's run failed."""
