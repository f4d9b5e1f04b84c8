"""What the monitor does to the world: roll back, end a canary, and ask for a run."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

from ct.errors import RolloutError
from ct.rollout import LaggingError, ModelStore, apply, kept, plan_end_canary, plan_rollback, resume

if TYPE_CHECKING:
    from ct.home import Home
    from ct.rollout import Aliases

ACTOR = "monitor"


class Actions(Protocol):
    """What can be done. Each says what came of it, and raises a CTError when it could not be done."""

    def roll_back(self, model: str, new: int, previous: int, reason: str) -> str:
        """Let the previous version serve again, if the new one does still. Doing it twice does it once."""
        ...

    def end_canary(self, model: str, version: int, reason: str) -> str:
        """End the canary, if it is this version still. Doing it twice does it once."""
        ...

    def retrain(self, model: str, reason: str) -> str:
        """Ask for a run."""
        ...

    def resume(self, model: str) -> str:
        """Finish a change of what serves that was cut short, whoever began it; empty when there was none."""
        ...


class RealActions:
    """Changes the model store, and asks Airflow."""

    def __init__(self, home: Home, aliases: Aliases) -> None:
        self._home = home
        self._aliases = aliases

    def roll_back(self, model: str, new: int, previous: int, reason: str) -> str:
        """Roll back from the watched version to the one before it.

        Raises:
            RolloutError: the rollback is refused, such as to a quarantined version; what served serves on.
        """
        store = ModelStore(self._home, model)
        desired = store.desired()
        if desired is None or desired.version != new:
            return f"version {desired.version if desired else None} serves already"
        plan = plan_rollback(model, previous, **store.facts(kept(desired)))
        try:
            applied = apply(plan, store, self._aliases, actor=ACTOR, reason=reason, clock=_now)
        except LaggingError as error:
            return error.message  # it stays desired, and workers that lag take it when they can
        except RolloutError:
            if (desired := store.desired()) is not None and desired.version != new:
                return f"somebody was faster: version {desired.version} serves"
            raise
        return f"version {previous} serves again; serving workers that answer with it: {applied.workers}"

    def end_canary(self, model: str, version: int, reason: str) -> str:
        """End the canary and quarantine its version; champion and shadow stay.

        Raises:
            RolloutError: another change is under way; the next try comes after it.
        """
        store = ModelStore(self._home, model)
        desired = store.desired()
        if desired is None or desired.canary is None or desired.canary.version != version:
            return f"version {version} is no canary any more"
        plan = plan_end_canary(model, **store.facts(kept(desired)))
        try:
            applied = apply(plan, store, self._aliases, actor=ACTOR, reason=reason, clock=_now)
        except LaggingError as error:
            return error.message  # it stays desired, and workers that lag take it when they can
        return f"version {desired.version} answers alone; serving workers that answer with it: {applied.workers}"

    def resume(self, model: str) -> str:
        """Finish what was cut short.

        Raises:
            RolloutError: the model store cannot be read.
        """
        found = resume(ModelStore(self._home, model), self._aliases, clock=_now)
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


def _now() -> datetime:
    return datetime.now(timezone.utc)
