"""One look at one model: bring the data, find the signals, decide, act, tell.

Every look begins from what is on disk. A decision is written before it is carried out, and what came of it after; a process
that is killed in between carries on with it at its next look.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ct.errors import CTError
from ct.monitor.compared import Compared, join_labels, read_pairs, request_ids
from ct.monitor.counters import Counters, advance, parse
from ct.monitor.decide import Action, Decision, decide
from ct.monitor.execution import Execution, rolled_back
from ct.monitor.labels import LabelStore
from ct.monitor.logged import predictions
from ct.monitor.records import Decided, Records, Stage, Status
from ct.monitor.signals import signals_of
from ct.monitor.watch import Watched, watch_now
from ct.rollout import ModelStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct.contracts import Verdict
    from ct.home import Home
    from ct.monitor.actions import Actions
    from ct.monitor.notify import Outbox
    from ct.monitor.pairing import Pairing
    from ct.monitor.watch import Watch
    from ct.monitor_config import MonitorConfig

LOG = logging.getLogger("ct.monitor")
LABELS_EVERY = timedelta(seconds=30)
"""Between two readings of pairs and labels; counters are looked at each time."""

RESUME_EVERY = timedelta(seconds=30)
"""Between two questions whether a change of what serves was cut short; the first is as the monitor starts."""


@dataclass(frozen=True)
class Ports:
    """What a look needs beside the disk."""

    metrics: Callable[[], str]
    """The text of serving's `/metrics`; raises a CTError while it does not answer."""
    actions: Actions
    pairing: Pairing
    outbox: Outbox
    clock: Callable[[], datetime]


class ModelMonitor:
    """Watches one model."""

    def __init__(self, home: Home, model: str, ports: Ports, *, labels_every: timedelta = LABELS_EVERY) -> None:
        self._home = home
        self._model = model
        self._ports = ports
        self._labels_every = labels_every
        self._store = ModelStore(home, model)
        self._labels = LabelStore(home, model)
        self._compared: tuple[str, datetime, Compared] | None = None
        self._resumed: datetime | None = None
        self.records = records_of(home, model)
        self._execution = Execution(model, self.records, ports.actions, ports.outbox)

    def look(self, config: MonitorConfig) -> Status:
        """Look once, and do what is to be done.

        Raises:
            RolloutError: the model store cannot be read.
        """
        now = self._ports.clock()
        problems: list[str] = []
        self._resume(now)
        kept = self.records.watched()
        counters = self._count(kept.counters if kept else Counters(), problems)
        watch = watch_now(kept, self._store.history(), now, counters, config)
        if watch is None:
            return self._say(Status(model=self._model, at=now, watch=None, decision=_keep("nothing serves yet")))
        is_same = kept is not None and kept.watch.id == watch.id
        if not is_same:
            self.records.forget_old_pairs()
        compared = self._compare(watch, now, problems)
        labelled = max(len(compared.labels), kept.labelled if kept and is_same else 0)
        watched = Watched(watch=watch, counters=counters, labelled=labelled)
        if watched != kept:
            self.records.keep(watched)
        signals = signals_of(
            config,
            counts=counters.of(watch.new) - watch.new_before,
            previous_counts=watch.previous_before if watch.previous else None,
            compared=compared,
            verdict=self._verdict(watch.new, problems),
            previous_verdict=self._verdict(watch.previous, problems),
        )
        lines = self.records.decisions()
        decision = decide(signals, watch, config, rolled_back=rolled_back(lines))
        decided = Decided(
            **decision.model_dump(),
            id=f"{watch.id}-{decision.action.value}",
            stage=Stage.DECIDED,
            at=now,
            new=watch.new,
            previous=watch.previous,
            signals=signals,
        )
        if decision.action is not Action.KEEP and not any(line.id == decided.id for line in lines):
            self._execution.begin(decided, config)
        problems += self._execution.go_on(config, now)
        problems += self._ports.outbox.deliver(now)
        status = Status(
            model=self._model, at=now, watch=watch, signals=signals, decision=decision, problems=tuple(problems)
        )
        return self._say(status)

    def _resume(self, now: datetime) -> None:
        if self._resumed is not None and now - self._resumed < RESUME_EVERY:
            return
        self._resumed = now
        if told := self._ports.actions.resume(self._model):
            LOG.warning("%s: %s", self._model, told)

    def _count(self, before: Counters, problems: list[str]) -> Counters:
        try:
            return advance(before, parse(self._ports.metrics(), self._model))
        except CTError as error:
            problems.append(error.message)
            return before

    def _compare(self, watch: Watch, now: datetime, problems: list[str]) -> Compared:
        """The rows of a watch; read again when that is due, because it may be many."""
        try:
            self._ports.pairing.go_on(watch, now)
        except CTError as error:
            problems.append(error.message)
        if self._ports.pairing.problem and watch.previous is not None:
            problems.append(self._ports.pairing.problem)
        if self._compared is None or self._compared[0] != watch.id or now - self._compared[1] >= self._labels_every:
            self._compared = (watch.id, now, self._read(watch))
        return self._compared[2]

    def _read(self, watch: Watch) -> Compared:
        if watch.previous is None:
            rows = predictions(self._home, self._model, watch.new, watch.since)
        else:
            rows = read_pairs(self.records.pairs(watch))
        return join_labels(rows, self._labels.of(request_ids(rows)))

    def _verdict(self, version: int | None, problems: list[str]) -> Verdict | None:
        if version is None:
            return None
        try:
            return self._store.manifest(version).verdict
        except CTError as error:
            problems.append(error.message)
            return None

    def _say(self, status: Status) -> Status:
        self.records.say(status)
        return status


def records_of(home: Home, model: str) -> Records:
    """The files of a model."""
    return Records(home.monitor / model)


def _keep(reason: str) -> Decision:
    return Decision(action=Action.KEEP, reason=reason)
