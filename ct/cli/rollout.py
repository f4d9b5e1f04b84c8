"""`ct rollout`, `ct rollback`: change what serves, wholly, for a share of the requests, or unseen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ct.cli.canary_options import parse_key, parse_share
from ct.cli.change import Asked, carry_out, facts_of, finish_cut_short
from ct.cli.known import model_store
from ct.cli.output import json_option
from ct.cli.prove import is_unproven, prove_what_is_new
from ct.errors import ProofFailedError

if TYPE_CHECKING:
    from ct.contracts import Canary, DesiredState
    from ct.rollout import Facts, ModelStore, Plan

DEFAULT_KEY = "header:ct-key"

PROOF_STEP = "prove version {}: start the service on its files, beside what serves"
DEFAULT_REASON = "changed by hand"

dry_run_option = click.option("--dry-run", is_flag=True, help="Print the steps and change nothing.")
who_option = click.option("--who", metavar="NAME", help="Who changes it, for the history; by default the user.")


@click.command()
@click.argument("name")
@click.option("--version", type=click.IntRange(min=1), help="The version to let serve; `ct models NAME` lists them.")
@click.option(
    "--canary",
    "share",
    type=parse_share,
    metavar="SHARE",
    help="Let it answer this share of the requests only: 10% or 0.1.",
)
@click.option(
    "--by",
    "key",
    type=parse_key,
    metavar="KEY",
    help=f"What decides which: header:NAME or feature:NAME; by default {DEFAULT_KEY}.",
)
@click.option("--shadow", is_flag=True, help="Let it predict the same rows unseen; clients never get its answers.")
@click.option("--end", is_flag=True, help="End the canary and the shadow.")
@click.option("--force", is_flag=True, help="Let a version serve against the gate or its proof; needs --reason.")
@click.option(
    "--allow-incompatible", is_flag=True, help="Let a version serve that takes features which the champion does not."
)
@click.option("--reason", default=DEFAULT_REASON, show_default=True, help="Why, for the history.")
@who_option
@dry_run_option
@json_option
def rollout(
    *,
    name: str,
    version: int | None,
    share: float | None,
    key: str | None,
    shadow: bool,
    end: bool,
    force: bool,
    allow_incompatible: bool,
    reason: str,
    who: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Let a version of NAME serve, now.

    For all requests, which ends a canary and a shadow; for a share of them with --canary; or unseen with --shadow. The share of
    a canary that is going is changed with --canary alone.

    A version that was neither proven nor ever served is proven first, as a run does: the service starts on its files, beside
    what serves. One that the gate did not approve, or whose proof failed, needs --force with a reason; history and MLflow then
    say so for ever. One in quarantine needs `ct quarantine NAME --lift V` first.
    """
    from ct.home import Home  # noqa: PLC0415
    from ct.rollout import admit, overruling  # noqa: PLC0415

    _refuse_contradictions(version=version, share=share, key=key, shadow=shadow, end=end)
    if force and reason.strip() in ("", DEFAULT_REASON):
        raise click.UsageError("--force overrules the gate and the proof, and needs a --reason that the history keeps.")
    began = time.monotonic()
    home = Home.from_environment()
    store = model_store(home, name)
    if not dry_run:
        finish_cut_short(home, store)
    plan = _plan(store, facts_of(home, store), version=version, share=share, key=key, shadow=shadow)
    forced = admit(plan, store, force=force, allow_incompatible=allow_incompatible)
    if not dry_run:
        try:
            if prove_what_is_new(home, store, plan, allow_incompatible=allow_incompatible):
                forced = admit(plan, store, force=force, allow_incompatible=allow_incompatible)
        except ProofFailedError as error:
            if not force:
                raise
            click.echo(f"{error.message} It is rolled out all the same: --force.", err=True)
            forced = True
    first = PROOF_STEP.format(plan.lets_answer) if dry_run and is_unproven(store, plan) else None
    asked = Asked(began=began, reason=reason, who=who, dry_run=dry_run, as_json=as_json, first_step=first)
    carry_out(overruling(plan) if forced else plan, home, store, asked)


@click.command()
@click.argument("name")
@click.option("--to", type=click.IntRange(min=1), help="The version to go to; by default what served before.")
@click.option("--reason", default="rolled back by hand", show_default=True, help="Why, for history and quarantine.")
@click.option("--keep", is_flag=True, help="Do not quarantine the version that served: a drill.")
@who_option
@dry_run_option
@json_option
def rollback(
    *, name: str, to: int | None, reason: str, keep: bool, who: str | None, dry_run: bool, as_json: bool
) -> None:
    """Let an earlier version of NAME serve, now, and quarantine the one that served. Ends a canary and a shadow too.

    What is in quarantine cannot serve again, nor can a retrain on the same inputs, until `ct quarantine NAME --lift V`.
    Asks nothing, and works with Airflow, MLflow and the daemon down.
    """
    from ct.home import Home  # noqa: PLC0415
    from ct.rollout import admit, plan_rollback  # noqa: PLC0415

    began = time.monotonic()
    home = Home.from_environment()
    store = model_store(home, name)
    plan = plan_rollback(name, to, quarantine=not keep, **facts_of(home, store))
    admit(plan, store)
    carry_out(plan, home, store, Asked(began=began, reason=reason, who=who, dry_run=dry_run, as_json=as_json))


def _refuse_contradictions(
    *, version: int | None, share: float | None, key: str | None, shadow: bool, end: bool
) -> None:
    if end and (version is not None or share is not None or key is not None or shadow):
        raise click.UsageError("--end ends both canary and shadow, and goes with none of the options that begin one.")
    if share is not None and shadow:
        raise click.UsageError("--canary and --shadow are two changes; make one after the other.")
    if key is not None and share is None:
        raise click.UsageError("--by says how a canary's requests are chosen; it needs --canary.")
    if version is None and share is None and not end:
        raise click.UsageError("Say which version with --version, or end canary and shadow with --end.")


def _plan(
    store: ModelStore, facts: Facts, *, version: int | None, share: float | None, key: str | None, shadow: bool
) -> Plan:
    """The plan that the options ask for; they do not contradict each other."""
    from ct.rollout import (  # noqa: PLC0415
        check_features,
        check_key,
        plan_canary,
        plan_end,
        plan_rollout,
        plan_shadow,
    )

    desired = facts["desired"]
    if share is not None:
        canary = _canary(store.name, desired, version, share, key)
        plan = plan_canary(store.name, canary, **facts)
        champion = store.manifest(plan.after.version)
        check_key(canary.key, champion)
        check_features(champion, store.manifest(canary.version))
    elif version is None:
        plan = plan_end(store.name, **facts)
    elif shadow:
        plan = plan_shadow(store.name, version, **facts)
        check_features(store.manifest(plan.after.version), store.manifest(version))
    else:
        plan = plan_rollout(store.name, version, reached=store.reached(), **facts)
    return plan


def _canary(name: str, desired: DesiredState | None, version: int | None, share: float, key: str | None) -> Canary:
    """The canary asked for; what is not said of one that is going stays as it is."""
    from ct.contracts import Canary  # noqa: PLC0415

    going = desired.canary if desired else None
    if version is None and going is None:
        raise click.UsageError(f'Say which version with --version: no canary of "{name}" is going.')
    if going is not None and version in (None, going.version):
        return going.model_copy(update={"share": share, "key": key or going.key})
    return Canary.model_validate({"version": version, "share": share, "key": key or DEFAULT_KEY})
