"""What the monitor does to the world: roll back, end a canary, and ask for a run."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

from ct.errors import CTError, RolloutError
from ct.rollout import (
    LaggingError,
    ModelStore,
    apply,
    canary_since,
    kept,
    plan_end_canary,
    plan_rollback,
    resume,
    serving_since,
)

if TYPE_CHECKING:
    from ct.contracts import HistoryEntry
    from ct.home import Home
    from ct.monitor.records import Decided
    from ct.rollout import Plan, Registry

ACTOR = "monitor"


class MootError(CTError):
    """What was decided is needed no more: the version does not answer any more, or began to anew, by somebody else's doing."""


class Actions(Protocol):
    """What can be done. Each says what came of it, and raises a CTError when it could not be done.

    Doing what was decided twice does it once.
    """

    def roll_back(self, model: str, decided: Decided) -> str:
        """Let the previous version serve again, if the new one does still."""
        ...

    def end_canary(self, model: str, decided: Decided) -> str:
        """End the canary and quarantine its version, if it goes still."""
        ...

    def retrain(self, model: str, reason: str) -> str:
        """Ask for a run."""
        ...

    def resume(self, model: str) -> str:
        """Finish a change of what serves that was cut short, whoever began it; empty when there was none."""
        ...


class RealActions:
    """Changes the model store, and asks Airflow."""

    def __init__(self, home: Home, registry: Registry) -> None:
        self._home = home
        self._registry = registry

    def roll_back(self, model: str, decided: Decided) -> str:
        """Roll back from the watched version to the one before it.

        Raises:
            RolloutError: the rollback is refused, such as to a quarantined version; what served serves on.
            MootError: another version serves by now.
        """
        store = ModelStore(self._home, model)
        desired = store.desired()
        began = serving_since(store.history())
        if desired is None or desired.version != decided.new or _has_begun_anew(began, decided):
            return _done_before(store, decided)
        plan = plan_rollback(model, decided.previous, **store.facts(kept(desired)))
        return self._apply(plan, store, decided)

    def end_canary(self, model: str, decided: Decided) -> str:
        """End the canary and quarantine its version; champion and shadow stay.

        Raises:
            RolloutError: another change is under way; the next try comes after it.
            MootError: the canary goes no more, or is another one.
        """
        store = ModelStore(self._home, model)
        desired = store.desired()
        going = desired.canary.version if desired is not None and desired.canary is not None else None
        if desired is None or going != decided.new or _has_begun_anew(canary_since(store.history()), decided):
            return _done_before(store, decided)
        plan = plan_end_canary(model, **store.facts(kept(desired)))
        return self._apply(plan, store, decided)

    def _apply(self, plan: Plan, store: ModelStore, decided: Decided) -> str:
        try:
            applied = apply(plan, store, self._registry, actor=ACTOR, reason=decided.reason, clock=_now)
        except LaggingError as error:
            return error.message  # it stays desired, and workers that lag take it when they can
        return f"version {plan.after.version} answers; serving workers that answer with it: {applied.workers}"

    def resume(self, model: str) -> str:
        """Finish what was cut short.

        Raises:
            RolloutError: the model store cannot be read.
        """
        found = resume(ModelStore(self._home, model), self._registry, clock=_now)
        return "" if found is None else found.message

    def retrain(self, model: str, reason: str) -> str:
        """Ask Airflow for a run on the spans that wait, whatever cooldown and least rows say.

        Not with `force`: the same spans would make the same model again. A run that finds no span is skipped and says so, and
        the next span that lands is trained on as ever.

        Raises:
            OrchestratorError: Airflow refused or did not answer.
        """
        from ct.airflow.api import AirflowApi  # noqa: PLC0415  only when there is something to ask
        from ct.settings import Settings  # noqa: PLC0415

        with AirflowApi(Settings.load(self._home), self._home) as airflow:
            return f"Airflow run {airflow.trigger(model, {'asked_by': ACTOR, 'reason': reason})} was asked for"


def _has_begun_anew(began: HistoryEntry | None, decided: Decided) -> bool:
    """Whether the version that was to be withdrawn was, and somebody let it answer again since."""
    return began is None or decided.generation not in (0, began.generation)


def _done_before(store: ModelStore, decided: Decided) -> str:
    """What came of a decision whose version does not answer any more.

    Raises:
        RolloutError: a change is under way that may yet bring it back.
        MootError: it was not the monitor that withdrew it.
    """
    history = store.history()
    if any(
        entry.quarantined == decided.new and entry.actor == ACTOR and entry.generation > decided.generation
        for entry in history
    ):
        return f"version {history[-1].version} answers"
    journal = store.journal()
    if journal is not None and journal.pending(store.desired()) is not None:
        raise RolloutError(
            f'The {journal.entry.change.value} of "{store.name}" is under way; whether version {decided.new} still answers '
            "shows after it.",
            name=store.name,
        )
    raise MootError(f"version {decided.new} does not answer any more, or was let do so anew", name=store.name)


def _now() -> datetime:
    return datetime.now(timezone.utc)
