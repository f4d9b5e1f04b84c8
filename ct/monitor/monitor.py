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
from ct.monitor.execution import Execution, withdrawn
from ct.monitor.labels import LabelStore
from ct.monitor.logged import predictions
from ct.monitor.records import Decided, Records, Stage, Status
from ct.monitor.signals import signals_of
from ct.monitor.watch import Watched, canary_watch_now, watch_now
from ct.rollout import ModelStore, canary_since

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct.contracts import Verdict
    from ct.home import Home
    from ct.monitor.actions import Actions
    from ct.monitor.counters import Counts, Variant
    from ct.monitor.notify import Outbox
    from ct.monitor.pairing import Pairing
    from ct.monitor.watch import Watch
    from ct.monitor_config import MonitorConfig

LOG = logging.getLogger("ct.monitor")
LABELS_EVERY = timedelta(seconds=30)
"""Between two readings of pairs and labels; counters are looked at each time."""

VARIANTS: tuple[Variant, ...] = ("champion", "canary")
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
    """Watches what serves of one model, or its canary."""

    def __init__(
        self,
        home: Home,
        model: str,
        ports: Ports,
        *,
        variant: Variant = "champion",
        labels_every: timedelta = LABELS_EVERY,
    ) -> None:
        self._home = home
        self._model = model
        self._ports = ports
        self._variant = variant
        self._labels_every = labels_every
        self._store = ModelStore(home, model)
        self._labels = LabelStore(home, model)
        self._compared: tuple[str, datetime, Compared] | None = None
        self._resumed: datetime | None = None
        self.records = records_of(home, model, variant)
        self._execution = Execution(model, self.records, ports.actions, ports.outbox)

    def resume(self) -> None:
        """Finish a change of what serves that was cut short, every so often.

        Raises:
            RolloutError: the model store cannot be read.
        """
        now = self._ports.clock()
        if self._resumed is not None and now - self._resumed < RESUME_EVERY:
            return
        self._resumed = now
        if told := self._ports.actions.resume(self._model):
            LOG.warning("%s: %s", self._model, told)

    def look(self, config: MonitorConfig) -> Status:
        """Look once, and do what is to be done.

        Raises:
            RolloutError: the model store cannot be read.
        """
        now = self._ports.clock()
        problems: list[str] = []
        kept = self.records.watched()
        watched = self._watch(kept, now, config, problems)
        if watched is None:
            return self._look_at_nothing(config, now, problems)
        watch = watched.watch
        compared = self._compare(watch, now, problems)
        if len(compared.labels) > watched.labelled:
            watched = watched.model_copy(update={"labelled": len(compared.labels)})
        if watched != kept:
            self.records.keep(watched)
        counts, previous_counts, own_past = _counts(watched)
        signals = signals_of(
            config,
            counts=counts,
            previous_counts=previous_counts,
            own_past=own_past,
            compared=compared,
            verdict=self._verdict(watch.new, problems),
            previous_verdict=self._verdict(watch.previous, problems),
            previous=watch.previous,
            beside=watch.canary is not None,
        )
        lines = self.records.decisions()
        alert = f"{watch.id}-{Action.ALERT.value}"
        alerted = any(line.id == alert for line in lines)
        decision = decide(signals, watch, config, withdrawn=self._withdrawn(), alerted=alerted)
        of_world = decision.action is Action.ALERT and decision.subject == "world"
        decided = Decided(
            **decision.model_dump(),
            id=f"{alert}-world" if of_world else f"{watch.id}-{decision.action.value}",
            stage=Stage.DECIDED,
            at=now,
            generation=watch.generation,
            new=watch.new,
            previous=watch.previous,
            signals=signals,
        )
        if decision.action is not Action.KEEP and not any(line.id == decided.id for line in lines):
            self._execution.begin(decided, config)
        problems += self._carry_on(config, now)
        status = Status(
            model=self._model, at=now, watch=watch, signals=signals, decision=decision, problems=tuple(problems)
        )
        self.records.say(status)
        return status

    def _look_at_nothing(self, config: MonitorConfig, now: datetime, problems: list[str]) -> Status:
        """There is nothing to watch; what had been decided before is carried out to its end."""
        self._ports.pairing.stop()
        problems += self._carry_on(config, now)
        decision = Decision(action=Action.KEEP, reason=f"no {self._variant} is watched")
        status = Status(model=self._model, at=now, watch=None, decision=decision, problems=tuple(problems))
        said = self.records.status()
        # Most models have no canary, and nobody needs to read so every few seconds.
        if problems or (self._variant == "champion" if said is None else said.watch is not None or said.problems):
            self.records.say(status)
        return status

    def _carry_on(self, config: MonitorConfig, now: datetime) -> list[str]:
        return [*self._execution.go_on(config, now), *self._ports.outbox.deliver(now)]

    def _watch(self, kept: Watched | None, now: datetime, config: MonitorConfig, problems: list[str]) -> Watched | None:
        """The watch that is on, with all that was counted until now."""
        history = self._store.history()
        counters, canaries = (kept.counters, kept.canaries) if kept else (Counters(), Counters())
        if self._variant == "champion":
            text = self._metrics(problems)
            counters = counters if text is None else advance(counters, parse(text, self._model, "champion"))
            watch = watch_now(kept, history, now, counters, config)
        elif canary_since(history) is None or (text := self._metrics(problems)) is None:
            # Without counters no canary's watch may begin, nor go on: it would begin at a moment that is not known.
            return None
        else:
            counters = advance(counters, parse(text, self._model, "champion"))
            canaries = advance(canaries, parse(text, self._model, "canary"))
            watch = canary_watch_now(kept, history, now, counters, canaries, config)
        if watch is None:
            return None
        is_same = kept is not None and kept.watch.id == watch.id
        if not is_same:
            self.records.forget_old_pairs()
        labelled = kept.labelled if kept and is_same else 0
        return Watched(watch=watch, counters=counters, canaries=canaries, labelled=labelled)

    def _metrics(self, problems: list[str]) -> str | None:
        try:
            return self._ports.metrics()
        except CTError as error:
            problems.append(error.message)
            return None

    def _withdrawn(self) -> frozenset[int]:
        """Versions that the monitor has withdrawn before, from serving or as a canary."""
        both = [records_of(self._home, self._model, variant).decisions() for variant in VARIANTS]
        return withdrawn(line for lines in both for line in lines)

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


def records_of(home: Home, model: str, variant: Variant = "champion") -> Records:
    """The files of a model, or of its canary."""
    folder = home.monitor / model
    return Records(folder if variant == "champion" else folder / variant)


def _counts(watched: Watched) -> tuple[Counts, Counts | None, Counts | None]:
    """What was counted of the new version in this watch, of the one it is compared with, and of itself before."""
    watch, counters, canaries = watched.watch, watched.counters, watched.canaries
    if watch.previous is None:
        own_past = watch.new_before if watch.new_before.requests else None
        return counters.of(watch.new) - watch.new_before, None, own_past
    if watch.canary is not None:
        # The champion answers beside the canary: what counts is the same time.
        return canaries.of(watch.new) - watch.new_before, counters.of(watch.previous) - watch.previous_before, None
    return counters.of(watch.new) - watch.new_before, watch.previous_before, None
