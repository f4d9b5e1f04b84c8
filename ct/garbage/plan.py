"""What of a home may go: everything that is on disk and that `needed` does not name. Nothing is changed here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ct.contracts import DeployedSpec
from ct.deploy import schema_hash
from ct.garbage.items import Item, Kind
from ct.garbage.needed import Needed, needed_of, retention_of
from ct.rollout import ModelStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ct.home import Home
    from ct.triggers.ledger import Ledger

SHORT = 12
"""Characters of a hash that people see."""
LEFTOVER_AFTER = timedelta(days=1)
"""What nobody has written to for so long belongs to a process that was killed; each of them lives for minutes."""
TRASH = "gc-"
"""Begins the names of folders in scratch/ that hold what was taken out of use already."""


@dataclass(frozen=True)
class Plan:
    """What would go, and which versions stay for which reason."""

    items: tuple[Item, ...]
    kept: dict[str, dict[int, str]]
    """Model -> version -> why it stays."""


def plan(home: Home, ledger: Ledger, executions: Mapping[str, Mapping[str, Sequence[int]]], *, now: datetime) -> Plan:
    """Find what nobody needs.

    Args:
        home: the home.
        ledger: its ledger. A run that goes on keeps everything of its own.
        executions: pipeline -> run -> ids of its executions in ML Metadata, which name the folders of TFX artifacts.
        now: the time.
    """
    items: list[Item] = []
    kept: dict[str, dict[int, str]] = {}
    for name in pipelines_of(home):
        store = ModelStore(home, name)
        needed = needed_of(home, store, ledger, now=now)
        kept[name] = needed.versions
        items += _versions(store, needed)
        items += _runs(home, ledger, name, needed)
        ended = {run.run_id for run in ledger.runs(name, limit=None)} - needed.runs
        items += _artifacts(home.artifacts(name), executions.get(name, {}), ended)
        if needed.data_is_known:
            items += _encoded(home.artifacts(name) / "spans", needed)
            items += _fetched(home.fetched(name), needed)
        items += _specs(home, name, needed, now)
    items += _leftovers(home, now)
    order = list(Kind)
    return Plan(tuple(sorted(items, key=lambda item: order.index(item.kind))), kept)


def pipelines_of(home: Home) -> list[str]:
    """Everything that has state in this home, deployed or not."""
    places = (home.deployed, home.models, home.artifacts("x").parent, home.fetched("x").parent)
    return sorted({path.name for place in places for path in place.glob("*") if path.is_dir()})


def _versions(store: ModelStore, needed: Needed) -> Iterator[Item]:
    for version in store.versions():
        if version not in needed.versions:
            why = f"not among the newest, and nothing uses it; judged {store.manifest(version).verdict.outcome.value}"
            path = store.version_path(version)
            yield Item(Kind.VERSION, f"{store.name} {version}", (path,), why, model=store.name, number=version)


def _runs(home: Home, ledger: Ledger, pipeline: str, needed: Needed) -> Iterator[Item]:
    for run in ledger.runs(pipeline, limit=None):
        path = home.runs / run.run_id
        if run.run_id not in needed.runs and path.is_dir():
            yield Item(Kind.RUN, run.run_id, (path,), f"{run.status.value}, ended {run.finished_at:%Y-%m-%d}")


def _artifacts(root: Path, executions: Mapping[str, Sequence[int]], ended: set[str]) -> Iterator[Item]:
    """TFX puts an output into `<node>/<output>/<execution>/`, and its own notes into `<node>/.system/<what>/<execution>/`."""
    folders: dict[str, list[Path]] = {}
    for path in (*root.glob("[!.]*/*/[0-9]*"), *root.glob("[!.]*/.system/*/[0-9]*")):
        if path.is_dir() and path.name.isdecimal():
            folders.setdefault(path.name, []).append(path)
    for run_id, ids in executions.items():
        paths = [path for number in ids for path in folders.get(str(number), ())]
        if run_id in ended and paths:
            yield Item(Kind.ARTIFACTS, run_id, tuple(paths), "its run is old, and no kept version came of it")


def _encoded(folder: Path, needed: Needed) -> Iterator[Item]:
    schemas = {schema_hash(path) for path in needed.schemas if path.exists()}
    for path in sorted(folder.glob("[0-9a-f]*-*-*")):
        sha256, schema, part = path.name.split("-", 2)
        if sha256 not in needed.encoded:
            yield Item(Kind.ENCODED, f"{sha256[:SHORT]} {part}", (path,), "left the window")
        elif schemas and schema not in schemas:
            yield Item(Kind.ENCODED, f"{sha256[:SHORT]} {part}", (path,), "of an earlier schema")


def _fetched(folder: Path, needed: Needed) -> Iterator[Item]:
    for path in sorted(folder.glob("[0-9a-f]*.*")):
        if path.name.partition(".")[0] not in needed.fetched:
            why = "left the window, and no kept version was made from it"
            yield Item(Kind.FETCHED, path.name, (path,), why)


def _specs(home: Home, pipeline: str, needed: Needed, now: datetime) -> Iterator[Item]:
    since = now - timedelta(days=retention_of(home, pipeline).runs_days)
    for path in sorted((home.deployed / pipeline / "specs").glob("[!.]*/spec.json")):
        if path.parent.name in needed.specs:
            continue
        deployed_at = DeployedSpec.model_validate_json(path.read_text(encoding="utf-8")).deployed_at
        if deployed_at < since:
            why = f"deployed {deployed_at:%Y-%m-%d}; no kept version or run needs it"
            yield Item(Kind.SPEC, f"{pipeline} {path.parent.name}", (path.parent,), why)


def _leftovers(home: Home, now: datetime) -> Iterator[Item]:
    """Unfinished folders, whose names begin with a dot, and scratch folders; of processes that are not there any more."""
    unfinished = (
        *home.models.glob("*/versions/.*"),
        *home.deployed.glob("*/specs/.*"),
        *home.artifacts("x").parent.glob("*/spans/.*"),
        *home.fetched("x").parent.glob("*/.incoming-*"),
        *home.scratch.glob("*/"),
    )
    for path in sorted(unfinished):
        written = datetime.fromtimestamp(path.stat().st_mtime, now.tzinfo)
        if path.name.startswith(TRASH) or written < now - LEFTOVER_AFTER:
            yield Item(Kind.LEFTOVER, str(path.relative_to(home.root)), (path,), f"of {written:%Y-%m-%d %H:%M}")
