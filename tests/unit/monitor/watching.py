"""A monitor whose world the test moves: serving's counters, pairs, labels, the clock, and what fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from monitor_parts import T0, FakePairing, FakeServing, NoRegistry, write_pairs

from ct.monitor.actions import RealActions
from ct.monitor.monitor import ModelMonitor, Ports, records_of
from ct.monitor.notify import Outbox
from ct.monitor_config import MonitorConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ct.home import Home
    from ct.monitor.counters import Variant
    from ct.monitor.records import Decided, Status
    from ct.rollout import ModelStore

CONFIG = MonitorConfig(notify=("ops",))


class Killed(BaseException):
    """The process ends here, as with `kill -9`."""


@dataclass
class Watching:
    """The monitor of what serves, or of a canary."""

    home: Home
    store: ModelStore
    variant: Variant = "champion"
    serving: FakeServing = field(default_factory=FakeServing)
    now: datetime = T0
    sent: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    failing: list[Exception | Killed] = field(default_factory=list)
    """Raised by the next actions, one each."""
    die_after: bool = False
    """Whether what is in `failing` comes after the action was done."""

    def __post_init__(self) -> None:
        (self.home.secrets / "notify.yaml").write_text("ops: json://127.0.0.1/\n")
        (self.home.secrets / "notify.yaml").chmod(0o600)
        self.start()

    def start(self) -> None:
        """A fresh process: all that it knows is on disk."""
        outbox = Outbox(self.home, records_of(self.home, "flights", self.variant).folder / "outbox", self._send)
        ports = Ports(self.serving, self, FakePairing(), outbox, lambda: self.now)  # type: ignore[arg-type]
        self.monitor = ModelMonitor(self.home, "flights", ports, variant=self.variant, labels_every=timedelta(0))

    def look(self, config: MonitorConfig = CONFIG, *, later_s: float = 5.0) -> Status:
        """One look, some time later."""
        self.now += timedelta(seconds=later_s)
        if self.variant == "champion":
            self.monitor.resume()
        return self.monitor.look(config)

    def label(self, request_ids: Sequence[str], labels: Sequence[float]) -> None:
        """Say what happened."""
        path = self.home.root / "labels.csv"
        lines = [f"{request_id},{int(label)}" for request_id, label in zip(request_ids, labels, strict=True)]
        path.write_text("\n".join(["request_id,late", *lines]))
        self.monitor._labels.add(path, "late")

    def pairs(self, new: Sequence[float], previous: Sequence[float], *, watch: str = "000002-000") -> list[str]:
        """Rows that both versions predicted; their request ids."""
        ids = [f"r{number}" for number in range(len(new))]
        write_pairs(self.monitor.records.folder / "pairs" / watch, list(zip(ids, new, previous, strict=True)))
        return ids

    def stages(self) -> list[str]:
        """The decisions so far."""
        return [f"{line.action.value} {line.stage.value}" for line in self.monitor.records.decisions()]

    def roll_back(self, model: str, decided: Decided) -> str:
        """The real one, which may fail or be killed."""
        return self._do(lambda: RealActions(self.home, NoRegistry()).roll_back(model, decided))

    def end_canary(self, model: str, decided: Decided) -> str:
        """The real one, which may fail or be killed."""
        return self._do(lambda: RealActions(self.home, NoRegistry()).end_canary(model, decided))

    def retrain(self, model: str, reason: str) -> str:
        """Note that it was asked for."""
        if self.failing:
            raise self.failing.pop(0)
        self.asked.append(reason)
        return "asked"

    def resume(self, model: str) -> str:
        """The real one."""
        return RealActions(self.home, NoRegistry()).resume(model)

    def _do(self, act: Callable[[], str]) -> str:
        if self.failing and not self.die_after:
            raise self.failing.pop(0)
        done = act()
        if self.failing:
            raise self.failing.pop(0)
        return done

    def _send(self, urls: Sequence[str], title: str, body: str) -> bool:
        self.sent.append(f"{title}\n{body}")
        return True


def flipped(rows: int = 600) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Chances, their opposites, and what happened."""
    rng = np.random.default_rng(1)
    chances = np.where(rng.random(rows) < 0.5, 0.1, 0.9)
    return chances, 1 - chances, (rng.random(rows) < chances).astype(float)
