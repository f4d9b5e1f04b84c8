"""`ct gc`: remove what nobody needs."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from ct.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct.garbage import Collected, Item, Kind, Plan
    from ct.home import Home

BYTES_A_MB = 1e6
EXECUTIONS = "ct.training.executions"


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--verbose", is_flag=True, help="A line an item, and why each version that stays does.")
@json_option
def gc(dry_run: bool, verbose: bool, as_json: bool) -> None:  # noqa: FBT001
    """Remove what nobody needs: old versions, runs, artifacts, encoded and fetched spans, specs.

    Stays in any case: what serves, is warm, canary, shadow, pinned or quarantined, or can be rolled back to; what rebuilds a
    version that stays; and everything of a run that goes on. `retention:` in pipeline.yaml says how much else.
    """
    from ct.garbage import collect, freed_bytes, plan  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.triggers.ledger import Ledger  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    ledger = Ledger.open(home)
    found = plan(home, ledger, _executions(home), now=datetime.now(timezone.utc))
    if dry_run:
        _print(found, found.items, freed_bytes(found.items), "would free", verbose=verbose, as_json=as_json)
        return
    done = collect(home, ledger, found.items)
    _mark_deleted(home, done)
    _print(found, done.removed, done.freed, "freed", verbose=verbose, as_json=as_json, left=done.left)


def _print(
    found: Plan,
    items: Sequence[Item],
    freed: Mapping[Kind, int],
    verb: str,
    *,
    verbose: bool,
    as_json: bool,
    left: Mapping[str, str] | None = None,
) -> None:
    total_mb = sum(freed.values()) / BYTES_A_MB
    if as_json:
        print_json({"total_mb": round(total_mb, 3), "items": _as_values(items), "kept": found.kept, "left": left or {}})
        return
    counts = {kind: sum(item.kind is kind for item in items) for kind in freed}
    rows = [(kind.value, counts[kind], f"{freed[kind] / BYTES_A_MB:.1f}") for kind in freed if counts[kind]]
    if rows:
        print_table(None, ("what", "items", "MB"), rows)
    if verbose:
        for item in items:
            click.echo(f"{item.kind.value}: {item.name}: {item.why}")
        for model, versions in found.kept.items():
            for version, why in sorted(versions.items()):
                click.echo(f"stays: {model} {version}: {why}")
    for name, why in (left or {}).items():
        click.echo(f"left: {name}: {why}")
    click.echo(f"{verb} {total_mb:.1f} MB" if rows else "nothing to remove")


def _as_values(items: Sequence[Item]) -> list[dict[str, Any]]:
    return [
        {"kind": item.kind.value, "name": item.name, "why": item.why, "paths": [str(path) for path in item.paths]}
        for item in items
    ]


def _executions(home: Home) -> dict[str, dict[str, list[int]]]:
    """Of every pipeline that has run: run -> ids of its executions. The training plane is asked only where there are any."""
    databases = _databases(home)
    return _ask(home, databases, {}) if databases else {}


def _mark_deleted(home: Home, done: Collected) -> None:
    """Let ML Metadata know, too."""
    from ct.garbage import Kind  # noqa: PLC0415

    databases = _databases(home)
    gone = [item for item in done.removed if item.kind is Kind.ARTIFACTS]
    runs = {
        pipeline: [item.name for item in gone if item.paths[0].is_relative_to(home.artifacts(pipeline))]
        for pipeline in databases
    }
    if gone:
        _ask(home, databases, runs)


def _databases(home: Home) -> dict[str, str]:
    return {path.parent.name: str(path) for path in home.artifacts("x").parent.glob("*/metadata.db")}


def _ask(
    home: Home, databases: Mapping[str, str], deleted: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, list[int]]]:
    from ct.cli.training_plane import ask_training_plane  # noqa: PLC0415

    request = {"databases": databases, "deleted": deleted}
    answer: dict[str, dict[str, list[int]]] = ask_training_plane(EXECUTIONS, request, home)["executions"]
    return answer
