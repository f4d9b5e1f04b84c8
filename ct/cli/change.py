"""Carries out a change of what serves, and says what came of it. `ct rollout` and `ct rollback` share it."""

from __future__ import annotations

import getpass
import os
import time
from typing import TYPE_CHECKING

import click

from ct.cli.output import print_json

if TYPE_CHECKING:
    from ct.home import Home
    from ct.rollout import Applied, Facts, ModelStore, Plan

WAIT_S = 60.0
"""How long workers may take to load and prove a version."""


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


def carry_out(
    plan: Plan, home: Home, store: ModelStore, *, began: float, reason: str, dry_run: bool, as_json: bool
) -> None:
    """Print a plan, or execute it and say what came of it once every live worker has taken it.

    Args:
        plan: made from the store as it is now.
        home: whose settings name the registry.
        store: the model's.
        began: when the command began, on the monotonic clock, in seconds.
        reason: for the history.
        dry_run: print the steps and change nothing.
        as_json: for scripts.

    Raises:
        RolloutError: from `apply`; the message says what serves.
    """
    if dry_run:
        _print_steps(plan, as_json=as_json)
        return
    applied = _apply(plan, home, store, reason)
    seconds = time.monotonic() - began
    if as_json:
        print_json(
            {**_summary(plan), "workers": applied.workers, "seconds": seconds, "alias_problem": applied.alias_problem}
        )
        return
    click.echo(f"{plan.name}: {_told(plan)} in {seconds:.2f} s; {_workers(plan, applied)}")
    if applied.alias_problem:
        click.echo(f"the alias `champion` in MLflow is behind: {applied.alias_problem}", err=True)


def _apply(plan: Plan, home: Home, store: ModelStore, reason: str) -> Applied:
    from datetime import datetime, timezone  # noqa: PLC0415

    from ct.registry import MlflowRegistry  # noqa: PLC0415
    from ct.rollout import apply  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415

    try:
        return apply(
            plan,
            store,
            MlflowRegistry(Settings.load(home).mlflow_base_url),
            actor=_who(),
            reason=reason,
            clock=lambda: datetime.now(timezone.utc),
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


def _print_steps(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        print_json({**_summary(plan), "dry_run": True, "steps": [str(step) for step in plan.steps]})
        return
    click.echo(f"{plan.name}: {_told(plan)}, in these steps; nothing was changed")
    for number, step in enumerate(plan.steps, 1):
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


def _who() -> str:
    """The user's name for the history; in a container the user may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
