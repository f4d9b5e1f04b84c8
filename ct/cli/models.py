"""`ct models`, `ct rollback`."""

from __future__ import annotations

import getpass
import os
import time
from typing import TYPE_CHECKING, Any

import click

from ct.cli.output import ago, json_option, print_json, print_table

if TYPE_CHECKING:
    from ct.rollout import ModelStore

WAIT_S = 60.0


@click.command()
@click.argument("name", required=False)
@json_option
def models(name: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Versions, and which of them serves.

    Of all models, or of NAME together with the history of its rollouts.
    """
    from ct.errors import ConfigError  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.rollout import ModelStore  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    known = sorted(path.parent.name for path in home.models.glob("*/desired.json"))
    if name is not None and name not in known:
        raise ConfigError(f'There is no model "{name}" (models: {", ".join(known) or "none yet"}).', name=name)
    found = [_describe(ModelStore(home, each)) for each in ([name] if name else known)]
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no models yet; the first approved run makes one")
    for model in found:
        _print_model(model, with_history=name is not None)


def _describe(store: ModelStore) -> dict[str, Any]:
    desired = store.desired()
    return {
        "name": store.name,
        "serving": desired.version if desired else None,
        "warm": list(desired.warm) if desired else [],
        "versions": [store.manifest(version).model_dump(mode="json") for version in store.versions()],
        "workers": [worker.model_dump(mode="json") for worker in store.live_workers()],
        "history": [entry.model_dump(mode="json") for entry in store.history()],
    }


def _print_model(model: dict[str, Any], *, with_history: bool) -> None:
    rows = []
    for manifest in model["versions"]:
        version, checks = manifest["version"], manifest["verdict"]["checks"]
        state = "serving" if version == model["serving"] else "warm" if version in model["warm"] else ""
        measured = next(
            (f"{check['metric']} {check['value']:.4f}" for check in checks if check["value"] is not None), None
        )
        rows.append(
            (version, state, manifest["spans"][-1]["name"] if manifest["spans"] else None, measured, manifest["run_id"])
        )
    print_table(model["name"], ("version", "state", "newest span", "judged", "run"), rows)
    if with_history:
        from datetime import datetime  # noqa: PLC0415

        history = [
            (
                ago(datetime.fromisoformat(entry["at"])),
                entry["change"],
                entry["previous"],
                entry["version"],
                entry["actor"],
                entry["reason"],
            )
            for entry in reversed(model["history"])
        ]
        print_table("history", ("when", "change", "from", "to", "by", "why"), history)


@click.command()
@click.argument("name")
@click.option("--to", type=click.IntRange(min=1), help="The version to go to; by default what served before.")
@click.option("--reason", default="rolled back by hand", show_default=True, help="Why, for the history.")
@json_option
def rollback(name: str, to: int | None, reason: str, as_json: bool) -> None:  # noqa: FBT001
    """Let an earlier version of NAME serve, now.

    Asks nothing, and works with Airflow, MLflow and the daemon down.
    """
    from datetime import datetime, timezone  # noqa: PLC0415

    from ct.home import Home  # noqa: PLC0415
    from ct.registry import MlflowRegistry  # noqa: PLC0415
    from ct.rollout import ModelStore, apply, plan_rollback  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    began = time.monotonic()
    store = ModelStore(home, name)
    desired = store.desired()
    # As many stay warm as are now: the deployed spec, which may be damaged, is not needed.
    keep = len(desired.warm) if desired else 1
    plan = plan_rollback(name, to, desired=desired, history=store.history(), versions=store.versions(), keep=keep)
    applied = apply(
        plan,
        store,
        MlflowRegistry(Settings.load(home).mlflow_base_url),
        actor=_who(),
        reason=reason,
        clock=lambda: datetime.now(timezone.utc),
        timeout_s=WAIT_S,
    )
    seconds = time.monotonic() - began
    if as_json:
        print_json(
            {
                "name": name,
                "from": applied.entry.previous,
                "to": applied.entry.version,
                "workers": applied.workers,
                "seconds": seconds,
                "alias_problem": applied.alias_problem,
            }
        )
        return
    served = (
        f"serving workers that answer with it: {applied.workers}"
        if applied.workers
        else "no serving worker runs; the next one to start takes it"
    )
    click.echo(f"{name}: version {applied.entry.previous} -> {applied.entry.version} in {seconds:.2f} s; {served}")
    if applied.alias_problem:
        click.echo(f"the alias `champion` in MLflow is behind: {applied.alias_problem}", err=True)


def _who() -> str:
    """The user's name for the history; in a container the user may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
