"""Labels: what is taken, what is refused with its line, and that saying a thing twice changes nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from monitor_parts import T0, write_log

from ct.monitor.labels import LabelsRefusedError, LabelStore

if TYPE_CHECKING:
    from pathlib import Path

    from ct.home import Home


@pytest.fixture
def labels(home: Home) -> LabelStore:
    """A store beside a log with request a of one row and b of two."""
    write_log(home, "flights", 2, [("a", 0, 0.5), ("b", 0, 0.5), ("b", 1, 0.5)], T0, "120000Z-1-1")
    return LabelStore(home, "flights")


def added(labels: LabelStore, path: Path, text: str) -> dict[str, int]:
    """What came of a CSV with this text."""
    path = path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return asdict(labels.add(path, "late"))


def current(labels: LabelStore) -> dict[tuple[str, int], int]:
    """The labels in force."""
    return {key: label for key, (_, label) in labels.of(["a", "b", "c"]).items()}


def test_labels_are_kept_and_those_of_unlogged_rows_are_counted(labels: LabelStore, tmp_path: Path) -> None:
    """A request that the log does not have is no error: it is a sample."""
    text = "request_id,row,late\na,0,1\nb,0,0\nb,1,true\nc,0,1\nb,2,1\n"
    assert added(labels, tmp_path, text) == {"new": 5, "corrected": 0, "known": 0, "unlogged": 2}
    assert current(labels)["b", 1] == 1


def test_the_same_labels_twice_change_nothing(labels: LabelStore, tmp_path: Path) -> None:
    """Not even a file is added."""
    added(labels, tmp_path, "request_id,late\na,1\n")
    assert added(labels, tmp_path, "request_id,late\na,1\n")["known"] == 1
    assert len(labels.files()) == 1


def test_a_corrected_label_counts(labels: LabelStore, tmp_path: Path) -> None:
    """The later word is the one in force, and only what changed is kept again."""
    added(labels, tmp_path, "request_id,row,late\na,0,1\nb,0,1\n")
    found = added(labels, tmp_path, "request_id,row,late\na,0,0\nb,0,1\n")
    assert (found["new"], found["corrected"], found["known"]) == (0, 1, 1)
    assert current(labels) == {("a", 0): 0, ("b", 0): 1}


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("request_id,late\na,1\nb,maybe\n", 3, "late is 'maybe', and must be 0 or 1"),
        ("request_id,late\na,\n", 2, "late is '', and must be 0 or 1"),
        ("request_id,late\na,0.5\n", 2, "must be 0 or 1"),
        ("request_id,late\n,1\n", 2, "it has no request_id"),
        ("request_id,late\na,1\nb,1\n", 3, "request b had 2 rows; say which in a column `row`"),
        ("request_id,row,late\na,-1,1\n", 2, "row is '-1'"),
        ("request_id,late\na,1\na,0\n", 3, "request a, row 0 had another label further up"),
    ],
)
def test_a_wrong_line_refuses_the_file_and_is_named(
    labels: LabelStore, tmp_path: Path, text: str, line: int, what: str
) -> None:
    """None of its labels are taken, the right ones above included."""
    with pytest.raises(LabelsRefusedError, match=f"line {line}: .*None of the file's labels were taken") as caught:
        added(labels, tmp_path, text)
    assert what in caught.value.message
    assert caught.value.facts["line"] == line
    assert labels.files() == []


def test_a_missing_column_is_named(labels: LabelStore, tmp_path: Path) -> None:
    """With those that are there."""
    with pytest.raises(LabelsRefusedError, match="lacks the column late; it has request_id, delayed"):
        added(labels, tmp_path, "request_id,delayed\na,1\n")


def test_a_file_that_is_none_is_refused(labels: LabelStore, tmp_path: Path) -> None:
    """Whatever the reader says about it."""
    path = tmp_path / "labels.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(LabelsRefusedError, match="cannot be read as labels"):
        labels.add(path, "late")


def test_parquet_is_read_as_csv_is(labels: LabelStore, tmp_path: Path) -> None:
    """Booleans and whole numbers; a wrong row is named by its number."""
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"request_id": ["a", "b", "b"], "row": [0, 0, 1], "late": [True, False, True]}), path)
    assert labels.add(path, "late").new == 3
    assert current(labels) == {("a", 0): 1, ("b", 0): 0, ("b", 1): 1}
    pq.write_table(pa.table({"request_id": ["a", "b"], "row": [0, 0], "late": [1, 7]}), path)
    with pytest.raises(LabelsRefusedError, match="line 2: late is '7'"):
        labels.add(path, "late")


def test_labels_come_in_an_order(labels: LabelStore, tmp_path: Path) -> None:
    """Later files have later places: tests that go on from where they were must only ever get more at the end."""
    added(labels, tmp_path, "request_id,row,late\nb,1,1\n")
    added(labels, tmp_path, "request_id,row,late\na,0,0\n")
    found = labels.of(["a", "b"])
    assert found["b", 1][0] < found["a", 0][0]
