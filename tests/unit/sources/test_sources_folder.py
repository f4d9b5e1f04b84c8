"""Which files of a folder are spans, and when one counts as written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ct.sources.folder import HASH_BLOCK_BYTES, FolderSource, LandedFile, Settling, incomplete_reason, sha256_of


def file(name: str, size_bytes: int = 1, mtime_ns: int = 1) -> LandedFile:
    """A file as one look saw it."""
    return LandedFile(name, Path(f"{name}.csv"), size_bytes, mtime_ns)


def test_spans_are_the_matching_files_in_order_of_their_names(tmp_path: Path) -> None:
    """Files under another ending, and folders, are no spans."""
    for name in ("2013-10.csv", "2013-02.csv", "2013-01.csv", "notes.txt", "2013-03.parquet"):
        (tmp_path / name).write_text("a\n1\n")
    (tmp_path / "folder.csv").mkdir()
    source = FolderSource(tmp_path, "*.csv")
    assert [landed.name for landed in source.landed()] == ["2013-01", "2013-02", "2013-10"]
    assert source.landed()[0].size_bytes == 4
    assert source.format == "csv"


@pytest.mark.parametrize("name", [".2013-01.csv", ".2013-01.csv.tmp", "2013-01.csv.part", "2013-01.csv.tmp"])
def test_hidden_and_unfinished_names_are_left_out(tmp_path: Path, name: str) -> None:
    """Writers mark what they have not finished by its name, whatever the pattern would take."""
    (tmp_path / name).write_text("a\n1\n")
    assert FolderSource(tmp_path, "*").landed() == []


def test_a_folder_that_is_not_there_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    """A mount that is gone must not look as if no data had come."""
    with pytest.raises(FileNotFoundError):
        FolderSource(tmp_path / "gone", "*.csv").landed()


def test_a_link_to_nothing_is_no_span(tmp_path: Path) -> None:
    """Like a file that goes away between the listing and the look."""
    (tmp_path / "2013-01.csv").symlink_to(tmp_path / "gone.csv")
    assert FolderSource(tmp_path, "*.csv").landed() == []


def test_a_file_settles_when_it_has_not_changed_for_long_enough() -> None:
    """Not a moment earlier, and it stays settled."""
    settling = Settling(2.0)
    assert settling.settled([file("a")], 10.0) == []
    assert settling.settled([file("a")], 11.9) == []
    assert settling.settled([file("a")], 12.0) == [file("a")]
    assert settling.settled([file("a")], 13.0) == [file("a")]


@pytest.mark.parametrize("changed", [file("a", size_bytes=2), file("a", mtime_ns=2)], ids=["size", "time"])
def test_a_file_that_changes_settles_anew(changed: LandedFile) -> None:
    """Its size or its time is enough, and other files are not held up by it."""
    settling = Settling(2.0)
    settling.settled([file("a"), file("b")], 10.0)
    assert settling.settled([changed, file("b")], 12.0) == [file("b")]
    assert settling.settled([changed], 13.9) == []
    assert settling.settled([changed], 14.0) == [changed]


def test_a_file_that_goes_and_comes_back_settles_anew() -> None:
    """What was known of it went with it."""
    settling = Settling(2.0)
    settling.settled([file("a")], 10.0)
    settling.settled([], 11.0)
    assert settling.settled([file("a")], 12.0) == []


def test_without_a_settling_time_a_file_counts_at_first_sight() -> None:
    """For writers that rename into place."""
    assert Settling(0.0).settled([file("a")], 10.0) == [file("a")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"", None),
        ("a.csv", b"a\n1\n", None),
        ("a.csv", b"a\r\n1\r\n", None),
        ("a.csv", b"a\n1", "its last line has no line end"),
        ("a.parquet", b"", None),
        ("a.parquet", b"PAR1....PAR1", None),
        ("a.parquet", b"PAR1....", "its Parquet footer has not been written"),
        ("a.parquet", b"PA", "its Parquet footer has not been written"),
    ],
)
def test_a_half_written_file_is_told_by_its_end(tmp_path: Path, name: str, content: bytes, reason: str | None) -> None:
    """An empty file is whole: it is refused with a reason, not waited for."""
    path = tmp_path / name
    path.write_bytes(content)
    assert incomplete_reason(path) == reason


def test_a_real_parquet_is_whole_and_any_shorter_one_is_not(tmp_path: Path) -> None:
    """The footer is written last."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    assert incomplete_reason(path) is None
    os.truncate(path, path.stat().st_size - 1)
    assert incomplete_reason(path) is not None


def test_a_file_that_went_away_is_not_whole(tmp_path: Path) -> None:
    """The next look at the folder will not see it; this one must not fail."""
    assert incomplete_reason(tmp_path / "gone.csv") == "it went away"


def test_the_hash_is_of_all_bytes(tmp_path: Path) -> None:
    """Also of a file longer than one block."""
    content = os.urandom(HASH_BLOCK_BYTES + 17)
    (tmp_path / "a.csv").write_bytes(content)
    assert sha256_of(tmp_path / "a.csv") == hashlib.sha256(content).hexdigest()
