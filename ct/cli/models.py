"""`ct models`: the versions of each model, and what each of them does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ct.cli.history import print_history
from ct.cli.known import known_models, model_store
from ct.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from ct.contracts import DesiredState, VersionManifest
    from ct.rollout import ModelStore

CHANGES_SHOWN = 20


@click.command()
@click.argument("name", required=False)
@json_option
def models(name: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Versions, and which of them serves.

    Of all models, or of NAME together with the history of its rollouts.
    """
    from ct.home import Home  # noqa: PLC0415
    from ct.rollout import ModelStore  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    stores = [ModelStore(home, each) for each in known_models(home)] if name is None else [model_store(home, name)]
    if as_json:
        print_json([_describe(store) for store in stores])
        return
    if not stores:
        click.echo("no models yet; the first approved run makes one")
    for store in stores:
        _print_model(store, with_history=name is not None)


def beside_lines(desired: DesiredState) -> list[str]:
    """The canary and the shadow that are going, a line each."""
    from ct.rollout import canary_text, shadow_text  # noqa: PLC0415

    lines = [f"canary: {canary_text(desired.canary)}"] if desired.canary else []
    return lines + ([f"shadow: {shadow_text(desired.shadow)}"] if desired.shadow is not None else [])


def _describe(store: ModelStore) -> dict[str, Any]:
    desired = store.desired()
    return {
        "name": store.name,
        "serving": desired.version if desired else None,
        "canary": desired.canary.model_dump(mode="json") if desired and desired.canary else None,
        "shadow": desired.shadow if desired else None,
        "warm": list(desired.warm) if desired else [],
        "versions": [store.manifest(version).model_dump(mode="json") for version in store.versions()],
        "workers": [worker.model_dump(mode="json") for worker in store.live_workers()],
        "history": [entry.model_dump(mode="json") for entry in store.history()],
    }


def _print_model(store: ModelStore, *, with_history: bool) -> None:
    desired = store.desired()
    rows = [_row(store.manifest(version), desired) for version in store.versions()]
    print_table(store.name, ("version", "state", "newest span", "judged", "run"), rows)
    for line in beside_lines(desired) if desired else []:
        click.echo(line)
    if with_history:
        print_history(store.history(), CHANGES_SHOWN)


def _row(manifest: VersionManifest, desired: DesiredState | None) -> tuple[object, ...]:
    checks = [check for check in manifest.verdict.checks if check.value is not None]
    return (
        manifest.version,
        _state(manifest.version, desired),
        manifest.spans[-1].name if manifest.spans else None,
        f"{checks[0].metric} {checks[0].value:.4f}" if checks else None,
        manifest.run_id,
    )


def _state(version: int, desired: DesiredState | None) -> str:
    """What a version does: `serving`, `canary 10%`, `shadow`, both of these, `warm`, or nothing."""
    from ct.rollout import percent  # noqa: PLC0415

    if desired is None:
        return ""
    if version == desired.version:
        return "serving"
    states = [f"canary {percent(desired.canary.share)}"] if desired.canary and desired.canary.version == version else []
    states += ["shadow"] if desired.shadow == version else []
    return ", ".join(states) or ("warm" if version in desired.warm else "")
