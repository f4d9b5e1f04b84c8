"""A folder as a source: which files are spans, and whether one has been written to its end."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

UNFINISHED_ENDINGS = (".tmp", ".part", ".partial", ".crdownload")
PARQUET_MAGIC = b"PAR1"
HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class LandedFile:
    """A file in the folder, as one look saw it."""

    name: str
    path: Path
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class FolderSource:
    """Every file of `path` that matches `pattern` is a span, named by its file name without the ending."""

    path: Path
    pattern: str

    @property
    def format(self) -> str:
        """`csv` or `parquet`."""
        return self.pattern.rpartition(".")[2]

    def landed(self) -> list[LandedFile]:
        """The files there now, ordered by name. Hidden files and names that say 'unfinished' are left out.

        Raises:
            OSError: the folder is not there, for example not mounted, or cannot be read.
        """
        if not self.path.is_dir():  # glob would find nothing and say nothing
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        files = []
        for path in sorted(self.path.glob(self.pattern)):
            if path.name.startswith(".") or path.name.endswith(UNFINISHED_ENDINGS):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # gone between the listing and the look
            if path.is_file():
                files.append(LandedFile(path.stem, path, status.st_size, status.st_mtime_ns))
        return files


@dataclass
class Settling:
    """Remembers since when each file has kept its size and time."""

    settle_s: float
    _since: dict[Path, tuple[LandedFile, float]] = field(default_factory=dict)

    def settled(self, files: Sequence[LandedFile], now_s: float) -> list[LandedFile]:
        """Those of the files that have not changed for `settle_s` seconds.

        Args:
            files: what the folder holds now.
            now_s: any clock that does not run backwards, in seconds.
        """
        self._since = {file.path: self._seen(file, now_s) for file in files}
        return [file for file, since in self._since.values() if now_s - since >= self.settle_s]

    def _seen(self, file: LandedFile, now_s: float) -> tuple[LandedFile, float]:
        known = self._since.get(file.path)
        return known if known is not None and known[0] == file else (file, now_s)


def incomplete_reason(path: Path) -> str | None:
    """Why the file looks half-written, or None when it is whole.

    A Parquet file ends with its magic bytes, a CSV file with a line end. An empty file is whole: it will be refused with
    a reason rather than waited for.

    Raises:
        OSError: the file cannot be read, and not because it went away.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(PARQUET_MAGIC)))
            tail = file.read()
    except FileNotFoundError:
        return "it went away"
    if not tail:
        return None
    if path.suffix == ".parquet" and tail != PARQUET_MAGIC:
        return "its Parquet footer has not been written"
    if path.suffix == ".csv" and not tail.endswith((b"\n", b"\r")):
        return "its last line has no line end"
    return None


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes, in hex, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
