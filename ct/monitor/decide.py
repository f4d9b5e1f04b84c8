"""What to do about what was found: a pure function."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ct.contracts import Value
from ct.monitor.signals import DRIFT_NEW, DRIFT_PREVIOUS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ct.monitor.signals import Signal
    from ct.monitor.watch import Watch
    from ct.monitor_config import MonitorConfig

SHARED = 0.5
"""When the previous version has lost at least so much of what the new one has, the loss is the world's."""


class Action(str, Enum):
    """What the monitor does."""

    KEEP = "keep"
    ROLLBACK = "rollback"
    END_CANARY = "end canary"
    RETRAIN = "retrain"
    ALERT = "alert"


class Decision(Value):
    """An action and why."""

    action: Action
    subject: Literal["version", "world"] = Field(
        default="version", description="What it is about; a watch alerts people of each once."
    )
    reason: str = Field(description="A sentence with the numbers.")


def decide(
    signals: Sequence[Signal],
    watch: Watch,
    config: MonitorConfig,
    *,
    withdrawn: Collection[int] = (),
    alerted: bool = False,
) -> Decision:
    """What to do now.

    - Failures and slow answers that only the new version has: roll back; end it where it is a canary.
    - Its quality, or its predictions, are worse than the previous version's on the same rows: roll back; unless it has lost
      more than drift's tolerance against its verdict and the previous one at least half as much against its own, for then going
      back helps little and the world is to blame.
    - Failures or slow answers of a version without a predecessor, which it did not have before, or failures where nothing was
      counted before: there is nothing to go back to; alert.
    - Both have fallen behind what the gate measured: the world has changed; alert and retrain, and no rollback. The watch of
      what serves says so, a canary's does not.
    - Else go on.

    Args:
        signals: of the watch.
        watch: which versions.
        config: what may be done.
        withdrawn: versions that the monitor has withdrawn before; whoever let one answer again has decided.
        alerted: whether this watch has told people of the version itself; then failures do not hide a world that changed.
    """
    by_name = {signal.name: signal for signal in signals}
    blamed = [signal for signal in signals if _blames_the_new(signal, by_name)]
    if blamed and watch.previous is not None:
        return _withdraw(blamed, watch, config, withdrawn)
    drifts = [by_name[name] for name in (DRIFT_NEW, DRIFT_PREVIOUS) if name in by_name]
    alone = watch.previous is None
    is_lost = bool(drifts) and all(drift.is_worse for drift in drifts) and (alone or _is_shared(by_name))
    if blamed and not (is_lost and alerted):
        return _worse_alone(blamed, watch)
    if is_lost and watch.canary is None:
        return _world_changed(drifts, watch, config)
    return Decision(action=Action.KEEP, reason=_open_question(signals, by_name, watch))


def _blames_the_new(signal: Signal, by_name: dict[str, Signal]) -> bool:
    if not signal.is_worse or signal.name in (DRIFT_NEW, DRIFT_PREVIOUS):
        return False
    if signal.name in ("errors", "latency"):
        return True
    quality = by_name.get("quality")
    proven = signal.name == "shift" and quality is not None and quality.is_fine  # other predictions, and no worse ones
    return not _is_shared(by_name) and not proven


def _is_shared(by_name: dict[str, Signal]) -> bool:
    """Whether the new version has lost more than the tolerance against its verdict, and the previous one about as much.

    A smaller loss excuses nothing. The verdicts are of other rows, and seasons move both by so much; on the same rows, where
    they move neither, the new version is the worse one, and no run is asked for that could mend it.
    """
    new, previous = by_name.get(DRIFT_NEW), by_name.get(DRIFT_PREVIOUS)
    if new is None or previous is None or new.worse_by is None or previous.worse_by is None:
        return False
    if min(new.rows, previous.rows) < new.enough:
        return False  # a handful of labels proves nothing either way
    return new.worse_by > new.tolerance and previous.worse_by >= SHARED * new.worse_by


def _withdraw(blamed: list[Signal], watch: Watch, config: MonitorConfig, withdrawn: Collection[int]) -> Decision:
    is_canary = watch.canary is not None
    which = f"canary version {watch.new}" if is_canary else f"version {watch.new}"
    found = f"{which} is worse than version {watch.previous}: {'; '.join(map(told, blamed))}"
    if watch.new in withdrawn:
        twice = "the monitor withdrew it before and somebody let it answer again, so it does not do so twice"
        return Decision(action=Action.ALERT, reason=f"{found}; {twice}")
    if not config.auto_rollback:
        return Decision(action=Action.ALERT, reason=f"{found}; auto_rollback is off, so nothing was changed")
    return Decision(action=Action.END_CANARY if is_canary else Action.ROLLBACK, reason=found)


def _worse_alone(blamed: list[Signal], watch: Watch) -> Decision:
    numbers = "; ".join(map(told, blamed))
    if watch.new_before.requests:
        free = (
            "look at the machine and at what serving needs; `ct quarantine` shows and lifts what was withdrawn for it"
        )
        found = f"version {watch.new} is worse than before: {numbers}; so no version is to blame, or not alone: {free}"
    else:
        free = "look at the version, at the machine and at what serving needs"
        found = f"version {watch.new} fails: {numbers}; there is no predecessor to go back to: {free}"
    return Decision(action=Action.ALERT, reason=found)


def _world_changed(drifts: list[Signal], watch: Watch, config: MonitorConfig) -> Decision:
    which = f"version {watch.new}" if watch.previous is None else f"versions {watch.new} and {watch.previous} both"
    found = f"the world has changed, {which} fell behind the gate: {'; '.join(map(told, drifts))}"
    if config.retrain_on_drift:
        asked = (
            "a run is asked for, which trains on what has landed since the last one and is skipped where nothing has"
        )
        return Decision(action=Action.RETRAIN, subject="world", reason=f"{found}; {asked}")
    off = "retrain_on_drift is off, so no run was asked for"
    return Decision(action=Action.ALERT, subject="world", reason=f"{found}; {off}")


def _open_question(signals: Sequence[Signal], by_name: dict[str, Signal], watch: Watch) -> str:
    worse = [signal for signal in signals if signal.is_worse]
    if worse and _is_shared(by_name):
        return f"both versions are worse than at the gate, and not both surely yet: {'; '.join(map(told, worse))}"
    if watch.previous is None:
        return f"version {watch.new} is watched against what the gate measured"
    return f"version {watch.new} is no worse than version {watch.previous} as far as the data tell"


def told(signal: Signal) -> str:
    """A signal in a few words and numbers."""
    if signal.worse_by is None or signal.value is None or signal.reference is None:
        return f"{signal.name}: {signal.note}"
    return (
        f"{signal.name} {signal.value:.4g} against {signal.reference:.4g} ({signal.note}), worse by {signal.worse_by:.4g} "
        f"[{signal.low:.4g}, {signal.high:.4g}], tolerance {signal.tolerance:g}, {signal.rows} rows"
    )
