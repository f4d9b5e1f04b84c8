"""Spans to files of tf.Example: what TensorFlow, Beam and tfx_bsl read of them, and what is left when something fails."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import apache_beam as beam
import pytest
from tfx_bsl.tfxio import tf_example_record
from tiny_run import NOW, in_fork

from ct.contracts import Span
from ct.errors import SpanRefusedError
from ct.sources import csv_blocks
from ct.sources.reader import Column, ColumnType
from ct.training import encode
from ct.training.encode_span import HoldOut, SpanEncoder
from ct.training.preload import tf

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

COLUMNS = (
    Column("time", ColumnType.STRING, required=True),
    Column("size", ColumnType.FLOAT, required=False),
    Column("late", ColumnType.INT, required=True),
)
HEADER = "time,size,late\n"
ROWS = 40_000


def span_of(path: Path, content: str | None = None) -> Span:
    """A span that landed with these bytes."""
    if content is not None:
        path.write_text(content, encoding="utf-8")
    content_bytes = path.read_bytes()
    return Span(
        pipeline="tiny",
        name=path.stem,
        revision=1,
        sha256=hashlib.sha256(content_bytes).hexdigest(),
        uri=str(path),
        format=path.suffix[1:],
        size_bytes=len(content_bytes),
        seen_at=NOW,
    )


def rows_of(count: int, days: int = 10) -> str:
    """Rows in the order of time; `size` is the row's number and missing in every tenth."""
    begin = datetime(2013, 1, 1, tzinfo=timezone.utc)
    times = ((begin + timedelta(days=days * row / count)).isoformat() for row in range(count))
    return HEADER + "".join(f"{time},{'' if row % 10 == 0 else row},{row % 2}\n" for row, time in enumerate(times))


def encoder(folder: Path, max_bad_rows: int = 0) -> SpanEncoder:
    """As ExampleGen makes one."""
    return SpanEncoder(COLUMNS, max_bad_rows=max_bad_rows, quarantine_to=folder / "quarantine", key="run")


def late_and_size(files: tuple[Path, ...]) -> list[tuple[int, float | None]]:
    """What TensorFlow reads."""
    examples = tf.data.TFRecordDataset([str(file) for file in files], compression_type="GZIP").as_numpy_iterator()
    features = (tf.train.Example.FromString(example).features.feature for example in examples)
    return [(one["late"].int64_list.value[0], next(iter(one["size"].float_list.value), None)) for one in features]


def beam_rows(pattern: str, to: Path) -> int:
    """How many rows Beam and tfx_bsl read, which is TFX's own way to the examples."""
    source = tf_example_record.TFExampleRecord(pattern, telemetry_descriptors=["test"])
    with beam.Pipeline() as pipeline:
        batches = pipeline | source.BeamSource() | beam.Map(lambda batch: batch.num_rows) | beam.CombineGlobally(sum)
        _ = batches | beam.io.WriteToText(str(to), shard_name_template="")
    return int(to.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> encode.Part:
    """A span of some batches, encoded."""
    folder = tmp_path_factory.mktemp("whole")
    patch = pytest.MonkeyPatch()
    with patch.context() as small:
        small.setattr(csv_blocks, "BLOCK_BYTES", 1 << 18)
        return encoder(folder).whole(span_of(folder / "span.csv", rows_of(ROWS)), folder / "part")


def test_every_row_is_in_one_of_the_files(whole: encode.Part) -> None:
    """Several files, each row once, a missing value missing."""
    found = in_fork(late_and_size, whole.files)
    expected = [(row % 2, None if row % 10 == 0 else float(row)) for row in range(ROWS)]
    assert len(whole.files) == encode.FILES
    assert (whole.rows, whole.quarantined) == (ROWS, 0)
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_beam_and_tfx_bsl_read_what_was_written(whole: encode.Part, tmp_path: Path) -> None:
    """All files by one pattern."""
    assert in_fork(beam_rows, str(whole.files[0].parent / "data_tfrecord-*.gz"), tmp_path / "rows") == ROWS


def test_the_same_span_gives_the_same_rows_in_the_same_files(whole: encode.Part, tmp_path: Path) -> None:
    """Which file a row is in does not depend on which thread was faster. Within an example protobuf's maps have no order."""
    with pytest.MonkeyPatch.context() as small:
        small.setattr(csv_blocks, "BLOCK_BYTES", 1 << 18)
        again = encoder(tmp_path).whole(span_of(tmp_path / "span.csv", rows_of(ROWS)), tmp_path / "part")
    assert [file.name for file in again.files] == [file.name for file in whole.files]
    pairs = zip(again.files, whole.files, strict=True)
    assert all(in_fork(late_and_size, (found,)) == in_fork(late_and_size, (expected,)) for found, expected in pairs)


def test_a_part_is_found_again(whole: encode.Part, tmp_path: Path) -> None:
    """By its ready.json, which lists its files; a folder without one is no part."""
    assert encode.ready_part(whole.files[0].parent) == whole
    assert encode.ready_part(tmp_path) is None


def test_a_refused_span_leaves_nothing_behind(tmp_path: Path) -> None:
    """Also when thousands of rows were encoded before it was certain."""
    span = span_of(tmp_path / "span.csv", rows_of(ROWS) + "2013-01-11T00:00:00+00:00,far,1\n")
    with pytest.raises(SpanRefusedError, match=f"line {ROWS + 2}, column \"size\": 'far' is not a number"):
        encoder(tmp_path).whole(span, tmp_path / "parts" / "part")
    assert list((tmp_path / "parts").iterdir()) == []


def test_bytes_that_changed_after_they_landed_are_refused(tmp_path: Path) -> None:
    """Whether what is there now can be read or not."""
    for content in (rows_of(10), "no CSV of ours\n"):
        landed = span_of(tmp_path / "span.csv", rows_of(20))
        (tmp_path / "span.csv").write_text(content, encoding="utf-8")
        with pytest.raises(SpanRefusedError, match="its bytes changed after they landed"):
            encoder(tmp_path).whole(landed, tmp_path / "part")
        assert not (tmp_path / "part").exists()


def test_a_failing_encoder_fails_the_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a thread is not lost, and the unfinished part goes."""

    def full(_batch: pa.RecordBatch) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encode, "encode", full)
    with pytest.raises(OSError, match="No space left"):
        encoder(tmp_path).whole(span_of(tmp_path / "span.csv", rows_of(10)), tmp_path / "parts" / "part")
    assert list((tmp_path / "parts").iterdir()) == []


def test_the_last_days_of_an_only_span_are_held_out(tmp_path: Path) -> None:
    """Every row is in one of the two; rows that were left out are counted once."""
    span = span_of(tmp_path / "span.csv", rows_of(1000) + "2013-01-05T00:00:00+00:00,far,1\n")
    folders = tmp_path / "train", tmp_path / "eval"
    train, judge = encoder(tmp_path, max_bad_rows=1).held_out(span, *folders, HoldOut("time", days=2))
    assert (train.rows, judge.rows) == (800, 200)
    assert (train.quarantined, judge.quarantined) == (1, 0)
    assert min(size for _, size in in_fork(late_and_size, judge.files) if size is not None) == 801


def test_another_time_column_holds_out_other_rows() -> None:
    """What an earlier run held out is found again by this key."""
    found = {HoldOut("time", days=7).key, HoldOut("landed_at", days=7).key, HoldOut("time", days=2).key}
    assert len(found) == 3
    assert HoldOut("time", days=7).key in found


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (rows_of(100, days=1), "its rows span less than 2 days"),
        (rows_of(10).replace("2013-01-", "01/2013/"), 'column "time" is not ISO 8601 time'),
    ],
    ids=["too few days", "no time"],
)
def test_what_cannot_be_held_out_is_refused(content: str, reason: str, tmp_path: Path) -> None:
    """A first span must cover more than the days that it is judged on, in a time that can be read."""
    span = span_of(tmp_path / "span.csv", content)
    with pytest.raises(SpanRefusedError, match=reason):
        encoder(tmp_path).held_out(span, tmp_path / "train", tmp_path / "eval", HoldOut("time", days=2))
    assert not (tmp_path / "train").exists()
    assert not (tmp_path / "eval").exists()
