"""From a file to a span whose bytes and rows are known."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ct.errors import SourceError
from ct.sources.arrival import BLOCK_BYTES, INCOMING, fetch, incoming
from ct.sources.contract import Offered
from ct.sources.folder import FolderSource

if TYPE_CHECKING:
    from pathlib import Path

    from ct.sources.arrival import Fetched


def arrived(path: Path, pattern: str) -> Fetched:
    """The one span of a folder."""
    source = FolderSource(path.parent, pattern)
    (offered,) = source.look(None).offered
    with incoming(path.parent / "fetched") as into:
        return fetch(source, offered, into)


def record(data: bytes) -> bytes:
    """A TFRecord, its checksums left at 0."""
    return len(data).to_bytes(8, "little") + bytes(4) + data + bytes(4)


def test_the_hash_is_of_all_bytes(tmp_path: Path) -> None:
    """Also of a file longer than one block; the file is left where it is."""
    content = os.urandom(BLOCK_BYTES + 17) + b"\n"
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    found = arrived(path, "*.csv")
    assert (found.path, found.size_bytes) == (path, len(content))
    assert found.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("name", "content", "rows", "estimated"),
    [
        ("a.csv", b"h\n1\n2\n", 2, True),
        ("a.csv", b'h\n"1\n2"\n', 2, True),
        ("a.csv", b"", 0, True),
        ("a.tfrecord", record(b"x") + record(b"") + record(b"yz"), 3, False),
        ("a.tfrecord", record(b"x")[:-1], None, False),
        ("a.tfrecord.gz", b"no gzip", None, False),
        ("a.parquet", b"PAR1 no footer PAR1", None, False),
    ],
)
def test_rows_are_counted_where_that_is_cheap(
    tmp_path: Path, name: str, content: bytes, rows: int | None, *, estimated: bool
) -> None:
    """CSV by its line ends, which is an estimate and called so; what cannot be counted is unknown, not 0."""
    path = tmp_path / name
    path.write_bytes(content)
    found = arrived(path, f"*{name.removeprefix('a')}")
    assert (found.rows, found.rows_estimated) == (rows, estimated)


def test_parquet_says_its_rows(tmp_path: Path) -> None:
    """In its footer."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1, 2, 3]}), path)
    found = arrived(path, "*.parquet")
    assert (found.rows, found.rows_estimated) == (3, False)


def _hold(folder: Path, held: object, go: object) -> None:
    with incoming(folder):
        held.set()  # type: ignore[attr-defined]
        go.wait()  # type: ignore[attr-defined]
        os._exit(9)  # as if killed


def test_a_fetch_that_goes_on_is_left_alone_and_one_that_was_killed_is_cleaned_up(tmp_path: Path) -> None:
    """Two looks may fetch side by side."""
    context = multiprocessing.get_context("fork")
    held, go = context.Event(), context.Event()
    child = context.Process(target=_hold, args=(tmp_path, held, go))
    child.start()
    assert held.wait(30)
    with incoming(tmp_path):
        assert len(list(tmp_path.glob(f"{INCOMING}*"))) == 2
    go.set()
    child.join(30)
    assert len(list(tmp_path.iterdir())) == 1
    with incoming(tmp_path):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


class Full:
    """A source whose copy does not fit."""

    keeps = False

    def look(self, since: object) -> object:
        """Not asked."""
        raise NotImplementedError

    def fetch(self, offered: Offered, folder: Path) -> Path:
        """As when the disk is full."""
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_an_error_of_the_source_and_leaves_nothing(tmp_path: Path) -> None:
    """The next look tries again."""
    with incoming(tmp_path) as into, pytest.raises(SourceError, match="No space left on device"):
        fetch(Full(), Offered("a", "x://a", "csv", "1"), into)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
