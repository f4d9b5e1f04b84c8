"""A thing on disk that may go, and how many bytes that frees."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


class Kind(str, Enum):
    """What sort of thing an item is, in the order in which they are shown."""

    VERSION = "versions"
    RUN = "run folders"
    ARTIFACTS = "TFX artifacts"
    ENCODED = "encoded spans"
    FETCHED = "fetched copies"
    SPEC = "specs"
    LEFTOVER = "leftovers"
    """Of processes that were killed."""


@dataclass(frozen=True)
class Item:
    """Files and folders that go together."""

    kind: Kind
    name: str
    """For people: `flights 3`, or a run's id."""
    paths: tuple[Path, ...]
    why: str
    model: str | None = None
    """Of a version: whose it is."""
    number: int | None = None
    """Of a version: which."""


def freed_bytes(items: Sequence[Item]) -> dict[Kind, int]:
    """Bytes a kind that removing all of these items frees.

    A file with several links, as encoded spans and models have, counts once, where its last link goes, and not at all when
    another link stays.
    """
    seen: Counter[tuple[int, int]] = Counter()
    freed = dict.fromkeys(Kind, 0)
    for item in items:
        for status in (path.lstat() for path in _files(item.paths)):
            inode = (status.st_dev, status.st_ino)
            seen[inode] += 1
            if seen[inode] == status.st_nlink:
                freed[item.kind] += status.st_size
    return freed


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            yield from (each for each in path.rglob("*") if each.is_symlink() or each.is_file())
        elif path.is_symlink() or path.exists():  # else it went by itself
            yield path
