"""From what a source offers to a local file whose bytes are known: fetched, hashed, its rows counted, kept under its hash."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ct.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ct.sources.contract import Offered, Source

BLOCK_BYTES = 1 << 20
INCOMING = ".incoming-"
TFRECORD_HEADER, TFRECORD_FOOTER = 12, 4
"""Bytes around each record: its length (8, little-endian) and its checksum, and the checksum of the data."""


@dataclass(frozen=True)
class Fetched:
    """A span's bytes on this machine."""

    path: Path
    """The source's own file where that is local, else the copy, named by its hash."""
    sha256: str
    size_bytes: int
    rows: int | None
    """None where only a reader could tell."""
    rows_estimated: bool


@contextlib.contextmanager
def incoming(folder: Path) -> Iterator[Path]:
    """A folder inside `folder` for fetches, removed at the end; those of processes that were killed are removed first.

    Raises:
        SourceError: this machine has no room for it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"{INCOMING}*"):
            with contextlib.suppress(OSError), _locked(path):  # a lock that is held says that its fetch goes on
                shutil.rmtree(path)
        path = Path(tempfile.mkdtemp(prefix=INCOMING, dir=folder))
    except OSError as error:
        raise _failed(str(folder), error) from error
    try:
        with _locked(path):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def fetch(source: Source, offered: Offered, into: Path) -> Fetched:
    """Have the span's bytes here, and know them. Doing it again gives the same; killed half-way it leaves nothing that counts.

    On disk::

        <folder of `incoming`>/
          <sha256>.<format>   a copy, with `.gz` where it is compressed; whole, because it is moved there once it is hashed
          .incoming-*/        where fetches that go on write

    Args:
        source: what offered it.
        offered: the span.
        into: from `incoming`.

    Raises:
        SourceChangedError: it was written to meanwhile; the next look tells.
        SourceError: it cannot be read, or this machine has no room for it.
    """
    try:
        path = source.fetch(offered, into)
        sha256, size_bytes, line_ends = _read(path)
        rows, estimated = _count_rows(path, offered.format, line_ends)
        if path.is_relative_to(into):
            kept = into.parent / f"{sha256}.{offered.format}{'.gz' if path.suffix == '.gz' else ''}"
            _keep(path, kept)
        else:
            kept = source.fetch(offered, into)  # says so when it was written to while it was hashed
    except OSError as error:
        raise _failed(offered.uri, error) from error
    return Fetched(kept, sha256, size_bytes, rows, estimated)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process; BlockingIOError when another holds it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes, in hex, read in blocks."""
    return _read(path)[0]


def _read(path: Path) -> tuple[str, int, int]:
    """Hash, size and number of line ends, in one pass."""
    digest, size_bytes, line_ends = hashlib.sha256(), 0, 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            size_bytes += len(block)
            line_ends += block.count(b"\n")
    return digest.hexdigest(), size_bytes, line_ends


def _count_rows(path: Path, format_name: str, line_ends: int) -> tuple[int | None, bool]:
    """Rows, and whether that is an estimate."""
    if format_name == "csv":
        return max(0, line_ends - 1), True
    if format_name == "parquet":
        return _parquet_rows(path), False
    return (None if path.suffix == ".gz" else _tfrecord_rows(path)), False


def _parquet_rows(path: Path) -> int | None:
    import pyarrow as pa  # noqa: PLC0415  whoever only lists a source must not wait for it
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowInvalid, OSError):
        return None  # a run will refuse it, with the reason


def _tfrecord_rows(path: Path) -> int | None:
    """Walks from length to length; None of a file that does not end with a record's end."""
    rows, size = 0, path.stat().st_size
    with path.open("rb") as file:
        position = 0
        while position < size:
            file.seek(position)
            position += TFRECORD_HEADER + int.from_bytes(file.read(8), "little") + TFRECORD_FOOTER
            rows += 1
    return rows if position == size else None


def _keep(path: Path, kept: Path) -> None:
    """Move a copy to its place, on disk before its name is, so that it also survives a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.replace(kept)
    folder = os.open(kept.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _failed(uri: str, error: OSError) -> SourceError:
    reason = error.strerror or str(error)
    return SourceError(f"{uri}: {reason}. Nothing was recorded; the next look tries again.", uri=uri)
