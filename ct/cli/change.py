"""Carries out a change of what serves, and says what came of it. `ct rollout` and `ct rollback` share it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ct.cli.output import print_json
from ct.cli.user import user_name

if TYPE_CHECKING:
    from datetime import datetime

    from ct.home import Home
    from ct.registry import MlflowRegistry
    from ct.rollout import Applied, Facts, ModelStore, Plan

WAIT_S = 60.0
"""How long workers may take to load and prove a version."""


@dataclass(frozen=True)
class Asked:
    """How a change was asked for on the command line."""

    began: float
    """On the monotonic clock, in seconds."""
    reason: str
    who: str | None
    """None: the user."""
    dry_run: bool
    """Print the steps and change nothing."""
    as_json: bool
    first_step: str | None = None
    """What comes before the plan's steps; for a dry run."""


def facts_of(home: Home, store: ModelStore) -> Facts:
    """What a plan is made from, with as many versions kept as the pipeline was deployed with."""
    from ct.config import ServingConfig  # noqa: PLC0415
    from ct.deploy import deployed_pipelines, deployed_spec  # noqa: PLC0415
    from ct.rollout import kept  # noqa: PLC0415

    desired = store.desired()
    keep = ServingConfig().keep_versions
    try:
        if store.name in deployed_pipelines(home):
            config = deployed_spec(home, store.name).config
            keep = ServingConfig.model_validate(config["serving"]).keep_versions
    except (OSError, ValueError, KeyError, TypeError) as error:
        # A rollback must not need the spec.
        keep = kept(desired) if desired else keep
        click.echo(f"the deployed spec of {store.name} cannot be read ({error}); {keep} versions stay loaded", err=True)
    return store.facts(keep)


def not_told(problem: str, store: ModelStore) -> str:
    """That MLflow does not say what has changed, and who tells it later."""
    if store.registry_behind is None:
        return f"MLflow does not say all of it: {problem}"
    later = "Once it answers, the daemon's monitor tells it within a minute, or the next `ct rollout`."
    return f"MLflow is behind: {problem} {later}"


def finish_cut_short(home: Home, store: ModelStore) -> str | None:
    """Finish a change whose command was killed, and say so, so that the next one is planned from what is.

    MLflow is told what it lacks.

    Returns:
        Why MLflow could not be told.

    Raises:
        RolloutError: what is desired cannot be known.
    """
    from ct.rollout import resume  # noqa: PLC0415

    resumed = resume(store, _registry(home), clock=_now, timeout_s=WAIT_S)
    if resumed is None:
        return None
    if resumed.message:
        click.echo(resumed.message, err=True)
    return resumed.registry_problem


def carry_out(plan: Plan, home: Home, store: ModelStore, asked: Asked) -> None:
    """Print a plan, or execute it and say what came of it once every live worker has taken it.

    Args:
        plan: made from the store as it is now, and admitted.
        home: whose settings name the registry.
        store: the model's.
        asked: for the history, and how to say what came of it.

    Raises:
        RolloutError: from `apply`; the message says what serves.
    """
    if asked.dry_run:
        _print_steps(plan, asked)
        return
    applied = _apply(plan, home, store, asked)
    seconds = time.monotonic() - asked.began
    if asked.as_json:
        told = {"workers": applied.workers, "seconds": seconds, "registry_problem": applied.registry_problem}
        print_json({**_summary(plan), "forced": plan.forced, **told})
        return
    click.echo(f"{plan.name}: {_told(plan)} in {seconds:.2f} s; {_workers(plan, applied)}")
    if plan.quarantines is not None:
        lift = f'`ct quarantine {plan.name} --lift {plan.quarantines} --reason "..."` lets it serve again'
        click.echo(f"version {plan.quarantines} is in quarantine; {lift}")
    if plan.forced:
        click.echo("the gate or the proof was overruled; the history says so for ever")
    if applied.registry_problem:
        click.echo(not_told(applied.registry_problem, store), err=True)


def _apply(plan: Plan, home: Home, store: ModelStore, asked: Asked) -> Applied:
    from ct.rollout import apply  # noqa: PLC0415

    try:
        return apply(
            plan,
            store,
            _registry(home),
            actor=asked.who or user_name(),
            reason=asked.reason,
            clock=_now,
            timeout_s=WAIT_S,
        )
    except KeyboardInterrupt:
        if store.desired() == plan.after:
            click.echo(
                f"interrupted: {_told(plan)} is desired, and serving workers go on to take it. See `ct status`; "
                f"`ct rollout` and `ct rollback` change it.",
                err=True,
            )
        raise


def _registry(home: Home) -> MlflowRegistry:
    from ct.registry import MlflowRegistry  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415

    return MlflowRegistry(Settings.load(home).mlflow_base_url)


def _now() -> datetime:
    from datetime import datetime, timezone  # noqa: PLC0415

    return datetime.now(timezone.utc)


def _print_steps(plan: Plan, asked: Asked) -> None:
    steps = [*([asked.first_step] if asked.first_step else []), *map(str, plan.steps)]
    if asked.as_json:
        print_json({**_summary(plan), "dry_run": True, "steps": steps})
        return
    click.echo(f"{plan.name}: {_told(plan)}, in these steps; nothing was changed")
    for number, step in enumerate(steps, 1):
        click.echo(f"  {number}. {step}")


def _summary(plan: Plan) -> dict[str, object]:
    return {
        "name": plan.name,
        "change": plan.change.value,
        "from": plan.before.version if plan.before else None,
        "to": plan.after.version,
        "canary": plan.after.canary.model_dump(mode="json") if plan.after.canary else None,
        "shadow": plan.after.shadow,
        "generation": plan.after.generation,
        "warm": list(plan.after.warm),
        "quarantined": plan.quarantines,
    }


def _told(plan: Plan) -> str:
    """The change in a few words."""
    from ct.contracts import Change  # noqa: PLC0415
    from ct.rollout import canary_text, shadow_text  # noqa: PLC0415

    before, after = plan.before, plan.after
    if plan.change is Change.CANARY and after.canary is not None:
        return f"{canary_text(after.canary)}, version {after.version} the rest"
    if plan.change is Change.SHADOW and after.shadow is not None:
        return f"{shadow_text(after.shadow)}, version {after.version} answers"
    ended = [] if before is None else [p for p, of in (("canary", before.canary), ("shadow", before.shadow)) if of]
    if plan.change is Change.END:
        return f"{' and '.join(ended)} ended, version {after.version} answers alone"
    to = f"version {before.version} -> {after.version}" if before else f"version {after.version} serves first"
    return f"{to} ({' and '.join(ended)} ended)" if ended else to


def _workers(plan: Plan, applied: Applied) -> str:
    from ct.contracts import Change  # noqa: PLC0415

    if not applied.workers:
        return "no serving worker runs; the next one to start takes it"
    doing = "hold" if plan.change in (Change.CANARY, Change.SHADOW) else "answer with"
    return f"serving workers that {doing} it: {applied.workers}"
