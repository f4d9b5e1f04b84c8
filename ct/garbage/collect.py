"""Remove what a plan names: each item leaves its place in one step, and is deleted from where nobody looks.

On disk::

    scratch/gc-*/<n>-<name>    taken out of use; the next `ct gc` removes what a killed one left
    scratch/gc.lock            held while one collects
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ct.contracts import Change
from ct.errors import CTError, RolloutError
from ct.garbage.items import Item, Kind, freed_bytes
from ct.garbage.needed import needed_versions, retention_of
from ct.garbage.plan import TRASH
from ct.rollout import ModelStore
from ct.rollout.locks import under_way
from ct.triggers.records import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ct.home import Home
    from ct.triggers.ledger import Ledger


@dataclass(frozen=True)
class Collected:
    """What was done."""

    removed: tuple[Item, ...]
    left: dict[str, str]
    """Item's name -> why it was left after all."""
    freed: dict[Kind, int]
    """Bytes a kind."""


def collect(home: Home, ledger: Ledger, items: Sequence[Item]) -> Collected:
    """Remove the items of a plan. Doing it again, also after it was killed, removes the rest.

    A version is looked at once more under its model's lock: what has come into use since the plan stays.

    Raises:
        CTError: another `ct gc` goes on in this home, or something cannot be moved; what is left is whole.
    """
    with _alone(home), _trash(home) as trash:
        removed: list[Item] = []
        left: dict[str, str] = {}
        freed = freed_bytes(items)
        for item in items:
            try:
                why = _take_out(home, ledger, item, trash)
            except OSError as error:
                raise CTError(
                    f"{item.kind.value}: {item.name} cannot be moved out of use: {error.strerror or error}. It is whole, and "
                    f"{len(removed)} other items are removed. Run `ct gc` again.",
                    path=str(item.paths[0]),
                ) from error
            if why is None:
                removed.append(item)
            else:
                left[item.name] = why
        if left:
            freed = freed_bytes([item for item in items if item.name not in left])
    return Collected(tuple(removed), left, freed)


def _take_out(home: Home, ledger: Ledger, item: Item, trash: Path) -> str | None:
    """None once the item is out of use, else why it stays."""
    if item.model is None or item.number is None:
        _move(item, trash)
        return None
    store = ModelStore(home, item.model)
    try:
        with under_way(store, Change.END):
            running = frozenset(run.run_id for run in ledger.runs(item.model) if run.status is RunStatus.RUNNING)
            why = needed_versions(store, retention_of(home, item.model), running).get(item.number)
            if why is None:
                _move(item, trash)
            return why
    except RolloutError as error:
        return error.message


def _move(item: Item, trash: Path) -> None:
    for path in item.paths:
        if path.exists() or path.is_symlink():  # a command that goes on removes its own
            path.rename(trash / f"{len(list(trash.iterdir()))}-{path.name}")


@contextmanager
def _trash(home: Home) -> Iterator[Path]:
    """A folder in the home's own file system, so that moving is renaming; deleted at the end."""
    folder = Path(tempfile.mkdtemp(dir=home.scratch, prefix=TRASH))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    home.scratch.mkdir(exist_ok=True)
    with (home.scratch / "gc.lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CTError(
                f"Another `ct gc` goes on in {home.root}. Nothing was removed. Try again when it is done.",
                home=str(home.root),
            ) from error
        yield
