"""Which files of a folder are spans, and when one counts as written."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ct.errors import SourceChangedError, SourceError
from ct.sources.arrival import BLOCK_BYTES, sha256_of
from ct.sources.folder import FolderSource, incomplete_reason

if TYPE_CHECKING:
    from pathlib import Path

    from ct.sources.contract import Look


class Clocked:
    """A folder of CSV files whose clock only `after` moves."""

    def __init__(self, folder: Path, settle_s: float = 2.0) -> None:
        self.folder = folder
        self.now_s = 10.0
        self.source = FolderSource(folder, "*.csv", settle_s, lambda: self.now_s)

    def write(self, name: str, text: str = "a\n1\n") -> None:
        """Put a file there."""
        (self.folder / name).write_text(text)

    def after(self, seconds: float) -> Look:
        """Let time pass and look."""
        self.now_s += seconds
        return self.source.look(None)

    def names(self, seconds: float) -> list[str]:
        """What is offered so many seconds later."""
        return [offered.name for offered in self.after(seconds).offered]


@pytest.fixture
def clocked(tmp_path: Path) -> Clocked:
    """An empty folder."""
    return Clocked(tmp_path)


def test_spans_are_the_matching_files_in_order_of_their_names(tmp_path: Path) -> None:
    """Files under another ending, and folders, are no spans."""
    for name in ("2013-10.csv", "2013-02.csv", "2013-01.csv", "notes.txt", "2013-03.parquet"):
        (tmp_path / name).write_text("a\n1\n")
    (tmp_path / "folder.csv").mkdir()
    offered = FolderSource(tmp_path, "*.csv").look(None).offered
    assert [(item.name, item.format, item.size_bytes) for item in offered] == [
        ("2013-01", "csv", 4),
        ("2013-02", "csv", 4),
        ("2013-10", "csv", 4),
    ]
    assert offered[0].uri == str(tmp_path / "2013-01.csv")


@pytest.mark.parametrize(
    ("pattern", "path", "name", "format_name"),
    [
        ("*/data.parquet", "2013-01/data.parquet", "2013-01", "parquet"),
        ("*/*.csv", "2013/01.csv", "2013-01", "csv"),
        ("day=*/part-*.tfrecord.gz", "day=2013-01-05/part-0.tfrecord.gz", "day=2013-01-05-part-0", "tfrecord"),
        ("*.tfrecord", "2013-01.tfrecord", "2013-01", "tfrecord"),
    ],
)
def test_folders_may_name_the_span(tmp_path: Path, pattern: str, path: str, name: str, format_name: str) -> None:
    """The parts that wildcards matched are the name."""
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_bytes(b"" if format_name == "parquet" else b"a\n1\n")
    (offered,) = FolderSource(tmp_path, pattern).look(None).offered
    assert (offered.name, offered.format) == (name, format_name)


def test_two_files_of_one_name_are_one_span_and_the_other_is_told(tmp_path: Path) -> None:
    """Neither is lost without a word."""
    for path in ("a-b/c.csv", "a/b-c.csv"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text("a\n1\n")
    look = FolderSource(tmp_path, "*/*.csv").look(None)
    assert [item.uri for item in look.offered] == [str(tmp_path / "a" / "b-c.csv")]
    assert "gives a span of the same name" in look.unready[0].reason


@pytest.mark.parametrize("name", [".2013-01.csv", ".2013-01.csv.tmp", "2013-01.csv.part", "2013-01.csv.tmp"])
def test_hidden_and_unfinished_names_are_left_out(tmp_path: Path, name: str) -> None:
    """Writers mark what they have not finished by its name."""
    (tmp_path / name).write_text("a\n1\n")
    look = FolderSource(tmp_path, "*.csv").look(None)
    assert (tuple(look.offered), tuple(look.unready)) == ((), ())


def test_a_folder_that_is_not_there_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    """A mount that is gone must not look as if no data had come, or as if all had been deleted."""
    with pytest.raises(SourceError, match="gone: it does not exist"):
        FolderSource(tmp_path / "gone", "*.csv").look(None)


def test_a_link_to_nothing_is_no_span(tmp_path: Path) -> None:
    """Like a file that goes away between the listing and the look."""
    (tmp_path / "2013-01.csv").symlink_to(tmp_path / "gone.csv")
    assert FolderSource(tmp_path, "*.csv").look(None).offered == ()


def test_a_file_settles_when_it_has_not_changed_for_long_enough(clocked: Clocked) -> None:
    """Not a moment earlier, and it stays settled; until then it says how long it takes."""
    clocked.write("a.csv")
    assert clocked.after(0).unready[0].ready_in_s == 2.0
    assert clocked.after(1.5).unready[0].ready_in_s == 0.5
    assert clocked.names(0.5) == ["a"]
    assert clocked.names(1) == ["a"]


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_changes_settles_anew(clocked: Clocked, change: str) -> None:
    """Its size or its time is enough, and other files are not held up by it."""
    clocked.write("a.csv")
    clocked.write("b.csv")
    clocked.after(0)
    if change == "size":
        clocked.write("a.csv", "a\n1\n2\n")
    else:
        os.utime(clocked.folder / "a.csv", ns=(1, 1))
    assert clocked.names(2) == ["b"]
    assert clocked.names(1.9) == ["b"]
    assert clocked.names(0.1) == ["a", "b"]


def test_a_file_that_goes_and_comes_back_settles_anew(clocked: Clocked) -> None:
    """What was known of it went with it."""
    clocked.write("a.csv")
    clocked.after(0)
    (clocked.folder / "a.csv").rename(clocked.folder / "away")
    clocked.after(1)
    (clocked.folder / "away").rename(clocked.folder / "a.csv")
    assert clocked.names(1) == []
    assert clocked.names(2) == ["a"]


def test_without_a_settling_time_a_file_counts_at_first_sight(tmp_path: Path) -> None:
    """For writers that rename into place."""
    (tmp_path / "a.csv").write_text("a\n1\n")
    assert Clocked(tmp_path, 0.0).names(0) == ["a"]


def test_a_file_that_was_whole_is_not_opened_again_until_it_changes(
    clocked: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look each second at a thousand files must not read a thousand files."""
    clocked.write("a.csv")
    clocked.after(0)
    assert clocked.names(2) == ["a"]
    monkeypatch.setattr("ct.sources.folder.incomplete_reason", lambda path: f"{path.name} was opened")
    assert clocked.names(1) == ["a"]
    clocked.write("a.csv", "a\n1\n2\n")
    clocked.after(0)
    assert [unready.reason for unready in clocked.after(2).unready] == ["a.csv was opened"]


def test_a_fetch_gives_the_file_itself_while_it_is_what_was_offered(clocked: Clocked) -> None:
    """Written to since, or gone, it is another one; the next look tells."""
    clocked.write("a.csv")
    clocked.after(0)
    (offered,) = clocked.after(2).offered
    path = clocked.source.fetch(offered, clocked.folder)
    assert path == clocked.folder / "a.csv"
    clocked.write("a.csv", "a\n1\n2\n")
    with pytest.raises(SourceChangedError):
        clocked.source.fetch(offered, clocked.folder)
    path.unlink()
    with pytest.raises(SourceChangedError, match="now gone"):
        clocked.source.fetch(offered, clocked.folder)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"", None),
        ("a.csv", b"a\n1\n", None),
        ("a.csv", b"a\r\n1\r\n", None),
        ("a.csv", b"a\n1", "its last line has no line end"),
        ("a.csv", "a\n1\n".encode("utf-16"), None),
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
    content = os.urandom(BLOCK_BYTES + 17)
    (tmp_path / "a.csv").write_bytes(content)
    assert sha256_of(tmp_path / "a.csv") == hashlib.sha256(content).hexdigest()
