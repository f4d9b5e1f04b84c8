"""`ct models`: the versions of each model, and what each of them does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ct.cli.history import print_history
from ct.cli.known import known_models, model_store
from ct.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Collection

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
        click.echo("no models yet; the first run that is judged makes one")
    for store in stores:
        _print_model(store, with_history=name is not None)


def beside_lines(desired: DesiredState) -> list[str]:
    """The canary and the shadow that are going, a line each."""
    from ct.rollout import canary_text, shadow_text  # noqa: PLC0415

    lines = [f"canary: {canary_text(desired.canary)}"] if desired.canary else []
    return lines + ([f"shadow: {shadow_text(desired.shadow)}"] if desired.shadow is not None else [])


@dataclass(frozen=True)
class _Marks:
    """What is said of versions beside what serves."""

    quarantined: Collection[int]
    forced: Collection[int]
    pinned: Collection[int]

    @classmethod
    def of(cls, store: ModelStore) -> _Marks:
        forced = (entry.lets_answer for entry in store.history() if entry.forced)
        return cls(store.quarantined(), frozenset(forced), store.pinned())

    def on(self, version: int) -> list[str]:
        """`quarantined`, `forced` (it once was rolled out against the gate's verdict), `pinned`."""
        marks = {"quarantined": self.quarantined, "forced": self.forced, "pinned": self.pinned}
        return [mark for mark, versions in marks.items() if version in versions]


def _describe(store: ModelStore) -> dict[str, Any]:
    desired, marks = store.desired(), _Marks.of(store)
    return {
        "name": store.name,
        "serving": desired.version if desired else None,
        "canary": desired.canary.model_dump(mode="json") if desired and desired.canary else None,
        "shadow": desired.shadow if desired else None,
        "warm": list(desired.warm) if desired else [],
        "quarantined": list(marks.quarantined),
        "pinned": list(marks.pinned),
        "versions": [
            {
                **store.manifest(version).model_dump(mode="json"),
                "states": [*_does(version, desired), *marks.on(version)],
            }
            for version in store.versions()
        ],
        "workers": [worker.model_dump(mode="json") for worker in store.live_workers()],
        "history": [entry.model_dump(mode="json") for entry in store.history()],
    }


def _print_model(store: ModelStore, *, with_history: bool) -> None:
    desired, marks = store.desired(), _Marks.of(store)
    rows = [_row(store.manifest(version), desired, marks) for version in store.versions()]
    print_table(store.name, ("version", "state", "verdict", "newest span", "judged", "run"), rows)
    for line in beside_lines(desired) if desired else []:
        click.echo(line)
    if with_history:
        print_history(store.history(), CHANGES_SHOWN)


def _row(manifest: VersionManifest, desired: DesiredState | None, marks: _Marks) -> tuple[object, ...]:
    checks = [check for check in manifest.verdict.checks if check.value is not None]
    return (
        manifest.version,
        ", ".join([*_does(manifest.version, desired), *marks.on(manifest.version)]),
        _verdict(manifest),
        manifest.spans[-1].name if manifest.spans else None,
        f"{checks[0].metric} {checks[0].value:.4f}" if checks else None,
        manifest.run_id,
    )


def _verdict(manifest: VersionManifest) -> str:
    """The gate's outcome, a person's answer where one was asked, and whether the refit's disagreement holds it back."""
    approval = manifest.approval
    answer = "" if approval is None else f", {'approved' if approval.approved else 'rejected'} by {approval.by}"
    return manifest.verdict.outcome.value + answer + (", withheld" if manifest.withheld else "")


def _does(version: int, desired: DesiredState | None) -> list[str]:
    """What a version does: `serving`, `canary 10%`, `shadow`, both of these, `warm`, or nothing."""
    from ct.rollout import percent  # noqa: PLC0415

    if desired is None:
        return []
    if version == desired.version:
        return ["serving"]
    states = [f"canary {percent(desired.canary.share)}"] if desired.canary and desired.canary.version == version else []
    states += ["shadow"] if desired.shadow == version else []
    return states or (["warm"] if version in desired.warm else [])
