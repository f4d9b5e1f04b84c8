"""Carries decisions out. Each stage is on disk when the next begins, so a process that is killed carries on where it was."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from ct.errors import CTError
from ct.monitor.actions import MootError
from ct.monitor.decide import Action
from ct.monitor.records import Decided, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ct.monitor.actions import Actions
    from ct.monitor.notify import Outbox
    from ct.monitor.records import Records
    from ct.monitor_config import MonitorConfig

LOG = logging.getLogger("ct.monitor")
TRIES = 6
FIRST_WAIT_S = 10.0
"""Before an action that failed is tried again; four times as long before each further try, 57 minutes in all."""


class Execution:
    """Carries out what was decided about one model, and tells people."""

    def __init__(self, model: str, records: Records, actions: Actions, outbox: Outbox) -> None:
        self._model = model
        self._records = records
        self._actions = actions
        self._outbox = outbox

    def begin(self, decided: Decided, config: MonitorConfig) -> None:
        """Note a decision; `go_on` carries it out."""
        self._announce(decided, config, decided.at)
        LOG.warning("%s: %s: %s", self._model, decided.action.value, decided.reason)
        self._records.note(decided)

    def go_on(self, config: MonitorConfig, now: datetime) -> list[str]:
        """Do what has been decided and is not done.

        Returns:
            What went wrong, a sentence each.
        """
        problems = []
        for decided, failures in unfinished(self._records.decisions()):
            waits_s = FIRST_WAIT_S * 4.0 ** (len(failures) - 1) if failures else 0.0
            if failures and now - failures[-1].at < timedelta(seconds=waits_s):
                problems.append(f"{decided.action.value}: {failures[-1].detail}; tried again later")
                continue
            try:
                done = self._act(decided)
                stage = Stage.DONE
            except MootError as error:
                done, stage = error.message, Stage.MOOT
            except CTError as error:
                done = error.message
                stage = Stage.GAVE_UP if len(failures) + 1 >= TRIES else Stage.FAILED
                problems.append(f"{decided.action.value}: {done}")
            line = decided.model_copy(update={"stage": stage, "at": now, "detail": done, "signals": ()})
            if stage is not Stage.FAILED:
                self._announce(line, config, now)
            LOG.warning("%s: %s %s: %s", self._model, decided.action.value, stage.value, done)
            self._records.note(line)
        return problems

    def _act(self, decided: Decided) -> str:
        if decided.action is Action.ROLLBACK and decided.previous is not None:
            return self._actions.roll_back(self._model, decided)
        if decided.action is Action.END_CANARY:
            return self._actions.end_canary(self._model, decided)
        if decided.action is Action.RETRAIN:
            return self._actions.retrain(self._model, decided.reason)
        return "told"

    def _announce(self, line: Decided, config: MonitorConfig, now: datetime) -> None:
        """Put the message of a stage into the outbox, before the stage is noted: so it is told, and told once."""
        what = {
            (Action.ROLLBACK, Stage.DONE): f"rolled back from version {line.new} to {line.previous}",
            (Action.ROLLBACK, Stage.GAVE_UP): f"version {line.new} is worse and could not be rolled back",
            (Action.END_CANARY, Stage.DONE): f"the canary, version {line.new}, was ended",
            (Action.END_CANARY, Stage.GAVE_UP): f"the canary, version {line.new}, is worse and could not be ended",
            (Action.RETRAIN, Stage.DECIDED): "the world has changed",
            (Action.RETRAIN, Stage.GAVE_UP): "no run could be asked for",
            (Action.ALERT, Stage.DECIDED): f"version {line.new} needs somebody's attention",
        }.get((line.action, line.stage))
        if what is None:
            return
        name = f"{line.id}-{line.stage.value.replace(' ', '-')}"
        body = f"{line.reason}.\n{line.detail}\nSee `ct monitor {self._model}` and `ct history {self._model}`."
        self._outbox.put(name, f"{self._model}: {what}", body, to=config.notify, now=now)


def withdrawn(lines: Iterable[Decided]) -> frozenset[int]:
    """Versions that the monitor has rolled back, or whose canary it has ended."""
    actions = (Action.ROLLBACK, Action.END_CANARY)
    return frozenset(line.new for line in lines if line.action in actions and line.stage is Stage.DONE)


def unfinished(lines: tuple[Decided, ...]) -> list[tuple[Decided, list[Decided]]]:
    """Decisions that are neither done, moot nor given up, each with its failed tries, oldest first."""
    ended = {line.id for line in lines if line.stage in (Stage.DONE, Stage.MOOT, Stage.GAVE_UP)}
    return [
        (line, [other for other in lines if other.id == line.id and other.stage is Stage.FAILED])
        for line in lines
        if line.stage is Stage.DECIDED and line.id not in ended
    ]
