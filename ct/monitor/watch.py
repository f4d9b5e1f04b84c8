"""Which version is watched, against which, and since when.

What serves is watched against what served before; a canary against what serves beside it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import Field

from ct.contracts import Canary, Change, Value
from ct.monitor.counters import Counters, Counts, Variant
from ct.rollout.history import canary_since, served_stack, serving_since

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.contracts import HistoryEntry
    from ct.monitor_config import MonitorConfig


class Watch(Value):
    """One stretch of watching one version. alpha is spent once in each."""

    generation: int = Field(description="Of the change with which the version began to serve.")
    period: int = Field(default=0, ge=0, description="0 against the predecessor; one more for each stretch after that.")
    canary: Canary | None = Field(default=None, description="The new one answers as this canary; None when it serves.")
    new: int
    previous: int | None = Field(
        description="What served before; None after a rollback, for a first version, and once the new one has proven itself. "
        "Of a canary, what serves beside it."
    )
    since: datetime
    new_before: Counts = Field(default_factory=Counts, description="What had been counted of the new one at `since`.")
    previous_before: Counts = Field(
        default_factory=Counts,
        description="All that was counted of the previous one; of a canary, what had been counted of the champion at `since`.",
    )

    @property
    def variant(self) -> Variant:
        """As what the new one answers."""
        return "canary" if self.canary else "champion"

    @property
    def id(self) -> str:
        """Names the watch in records and folders; it sorts as time goes."""
        return f"{self.generation:06d}-{self.period:03d}"


class Watched(Value):
    """What the monitor keeps of a model between two looks; replaced atomically."""

    watch: Watch
    counters: Counters = Field(default_factory=Counters, description="Of champions.")
    canaries: Counters = Field(default_factory=Counters, description="Of canaries, while one is watched.")
    labelled: int = Field(default=0, ge=0, description="Rows with a label, compared in this watch so far.")


def watch_now(
    kept: Watched | None, history: Sequence[HistoryEntry], now: datetime, counters: Counters, config: MonitorConfig
) -> Watch | None:
    """The watch that is on: the one so far, the next one of the same version, or one of a version that began to serve.

    Args:
        kept: what was known at the last look.
        history: every change, oldest first.
        now: with a zone.
        counters: after this look.
        config: of the model.

    Returns:
        The watch; None before the first rollout.
    """
    began = serving_since(history)
    if began is None:
        return None
    if kept is None or kept.watch.generation != began.generation:
        previous = predecessor(history)
        return Watch(
            generation=began.generation,
            new=began.version,
            previous=previous,
            since=began.at,
            # Before this look: what came since then is the new version's, unless it had served before.
            new_before=kept.counters.of(began.version) if kept else Counts(),
            previous_before=counters.of(previous) if previous else Counts(),
        )
    watch = kept.watch
    if not _is_over(kept, now, config):
        return watch
    return Watch(
        generation=watch.generation,
        period=watch.period + 1,
        new=watch.new,
        previous=None,
        since=now,
        # Before this look, as above: what failed since then counts in this stretch, not in the past that it is held against.
        new_before=kept.counters.of(watch.new),
    )


def canary_watch_now(
    kept: Watched | None,
    history: Sequence[HistoryEntry],
    now: datetime,
    counters: Counters,
    canaries: Counters,
    config: MonitorConfig,
) -> Watch | None:
    """The watch of a canary beside the champion, who answers at the same time; as long as it goes, one stretch after the other.

    A stretch has one share and one key: over two shares, trouble that both versions have at the same time would not cancel out.

    Args:
        kept: what was known at the last look.
        history: every change, oldest first.
        now: with a zone.
        counters: of champions, after this look.
        canaries: of canaries, after this look.
        config: of the model.

    Returns:
        The watch; None when no canary is going.
    """
    began = canary_since(history)
    if began is None:
        return None
    canary = history[-1].canary
    watch = kept.watch if kept is not None and kept.watch.generation == began.generation else None
    if kept is not None and watch is not None and watch.canary == canary and not _is_over(kept, now, config):
        return watch
    return Watch(
        generation=began.generation,
        period=watch.period + 1 if watch else 0,
        canary=canary,
        new=began.lets_answer,
        previous=began.version,
        since=now,
        # Both from this look on: what one of them answered at another time says nothing of the other.
        new_before=canaries.of(began.lets_answer),
        previous_before=counters.of(began.version),
    )


def _is_over(kept: Watched, now: datetime, config: MonitorConfig) -> bool:
    return now - kept.watch.since >= timedelta(hours=config.hours) or kept.labelled >= config.rows


def predecessor(history: Sequence[HistoryEntry]) -> int | None:
    """The version that a rollback would let serve, when what serves now was rolled out and not gone back to."""
    began = serving_since(history)
    earlier = served_stack(history)[:-1]
    return earlier[-1] if began and began.change is Change.ROLLOUT and earlier else None
