"""The prediction log: what is kept, what is dropped and counted, what a reader gets, and that nothing harms a request."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ct.contracts import Feature
from ct.home import Home
from serving.logs import prediction_files
from serving.logs.background import remove_oldest
from serving.logs.prediction_files import FILE_ROWS, FILE_S, Answered, PredictionFiles, ReservedNameError
from serving.logs.prediction_log import WAKE_ROWS, PredictionLog, read
from serving.rows import Layout, from_objects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FEATURES = (
    Feature(name="carrier", dtype="string"),
    Feature(name="distance", dtype="float32"),
    Feature(name="weekday", dtype="int64"),
)
LAYOUT = Layout(FEATURES)
ROW = {"carrier": "Ünited", "distance": 100.5, "weekday": 3}
AT = 1_767_323_045.25
MOMENT = datetime.fromtimestamp(AT, timezone.utc)
BIG = 512 * 2**20


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path / "home").create()


def answered(*rows: dict[str, Any], layout: Layout = LAYOUT, **changes: Any) -> Answered:
    """A request with these rows, by default one."""
    found = from_objects(layout, rows or (ROW,), "instances")
    values: dict[str, Any] = {
        "model": "flights",
        "version": 3,
        "variant": "champion",
        "request_id": "r1",
        "trace_id": None,
        "at": AT,
        "rows": found,
        "predictions": [0.25] * found.count,
    }
    return Answered(**{**values, **changes})


def log(home: Home, **changes: Any) -> PredictionLog:
    """A log that writes when it is stopped, or when WAKE_ROWS have come."""
    return PredictionLog(home, **{"share": 1.0, "budget_mb": 512.0, "every_s": 3600.0, "clock": lambda: AT, **changes})


def kept(home: Home, model: str = "flights", **changes: Any) -> list[dict[str, Any]]:
    """All rows that a reader gets."""
    batches = read(home, model, **{"since": MOMENT - timedelta(days=1), **changes})
    return [row for batch in batches for row in batch.to_pylist()]


def files(home: Home, model: str = "flights") -> list[str]:
    """The names of all files of a model, unfinished ones included."""
    folder = home.predictions(model)
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*"))


def becomes(condition: Callable[[], bool]) -> bool:
    """Wait for what another thread does."""
    pause, end = threading.Event(), time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        pause.wait(0.005)
    return condition()


def test_kept_rows_come_back_with_their_request_and_their_types(home: Home) -> None:
    """Each row has the request's id, its place in it, who answered when and what, and each raw feature in its own type."""
    writing = log(home)
    writing.start()
    # 16777217 is a whole number that float32 rounds; the model saw the rounded one too.
    writing.add(answered(ROW, {**ROW, "distance": 16777217}, predictions=[0.25, 0.75], request_id="a", trace_id="t"))
    writing.add(answered(request_id="b", version=4, variant="canary"))
    writing.stop()

    assert (writing.written, writing.dropped) == (3, 0)
    assert files(home) == [f"2026-01-02/030405Z-{os.getpid()}-1.parquet"]
    rows = kept(home)
    assert [(row["ct_request_id"], row["ct_row"], row["ct_trace_id"]) for row in rows] == [
        ("a", 0, "t"),
        ("a", 1, "t"),
        ("b", 0, None),
    ]
    assert [(row["ct_version"], row["ct_variant"], row["ct_prediction"]) for row in rows] == [
        (3, "champion", 0.25),
        (3, "champion", 0.75),
        (4, "canary", 0.25),
    ]
    assert {row["ct_at"] for row in rows} == {MOMENT}
    assert [row["distance"] for row in rows] == [100.5, 16777216.0, 100.5]
    assert {(row["carrier"], row["weekday"]) for row in rows} == {("Ünited", 3)}
    schema = next(read(home, "flights", since=MOMENT)).schema
    assert [(field.name, str(field.type)) for field in schema] == [
        ("ct_request_id", "string"),
        ("ct_row", "int32"),
        ("ct_trace_id", "string"),
        ("ct_at", "timestamp[us, tz=UTC]"),
        ("ct_version", "int32"),
        ("ct_variant", "dictionary<values=string, indices=int32, ordered=0>"),
        ("ct_prediction", "float"),
        ("carrier", "string"),
        ("distance", "float"),
        ("weekday", "int64"),
    ]


@pytest.mark.parametrize("name", ["req-{}", "{:032x}", "{}"])
def test_the_sample_is_the_share_of_any_kind_of_id_and_the_same_in_every_worker(home: Home, name: str) -> None:
    """Ten per cent means ten per cent of counting ids too; two logs choose alike, so champion and shadow are both kept."""
    one, other = log(home, share=0.1), log(home, share=0.1)
    ids = [name.format(number) for number in range(20_000)]
    chosen = [request_id for request_id in ids if one.wants(request_id)]
    assert len(chosen) == pytest.approx(2000, rel=0.1)
    assert chosen == [request_id for request_id in ids if other.wants(request_id)]


def test_a_share_of_nothing_keeps_nothing_and_of_one_everything(home: Home) -> None:
    """The ends of the setting mean what they say, and any text is an id."""
    assert not any(map(log(home, share=0.0).wants, ("", "a", "ü", "\ud800")))
    assert all(map(log(home, share=1.0).wants, ("", "a", "ü", "\ud800")))


def test_a_full_buffer_drops_and_counts_rows(home: Home) -> None:
    """What does not fit is dropped at once, counted in rows; smaller requests still go in; what is in comes out."""
    writing = log(home, limit_rows=5)
    writing.add(answered(ROW, ROW, ROW))
    writing.add(answered(ROW, ROW, ROW))
    writing.add(answered(ROW, ROW))
    assert writing.dropped == 3
    writing.start()
    writing.stop()
    assert (writing.written, len(kept(home))) == (5, 5)


def test_stop_writes_what_is_buffered_and_later_rows_are_dropped(home: Home) -> None:
    """Stopping twice is safe, before the start too, and nothing waits for a thread that has ended."""
    log(home).stop()
    writing = log(home)
    writing.start()
    writing.add(answered())
    writing.stop()
    writing.stop()
    writing.add(answered())
    assert (writing.written, writing.dropped) == (1, 1)


def test_many_rows_are_written_before_the_time_is_up(home: Home) -> None:
    """WAKE_ROWS rows wake the thread, though its interval is an hour."""
    writing = log(home)
    writing.start()
    writing.add(answered(*[ROW] * WAKE_ROWS))
    assert becomes(lambda: writing.written == WAKE_ROWS)
    writing.stop()


def test_few_rows_are_written_when_the_time_is_up(home: Home) -> None:
    """A lone row does not wait for others."""
    writing = log(home, every_s=0.01)
    writing.start()
    writing.add(answered())
    assert becomes(lambda: writing.written == 1)
    writing.stop()


def test_the_buffer_holds_as_much_again_once_it_was_written(home: Home) -> None:
    """The limit is of rows that wait, not of rows ever."""
    writing = log(home, limit_rows=2, every_s=0.01)
    writing.start()
    for round_ in range(1, 4):
        writing.add(answered(ROW, ROW))
        assert becomes(lambda round_=round_: writing.written == 2 * round_)
    writing.stop()
    assert writing.dropped == 0


def test_a_file_holds_one_layout_and_versions_of_one_layout_share_it(home: Home) -> None:
    """Versions with the same features, loaded apart, write to one file; other features and other models get their own."""
    writing = log(home)
    same = Layout(FEATURES)
    fewer = Layout(FEATURES[:1])
    writing.add(answered())
    writing.add(answered(layout=same, version=4))
    writing.add(answered({"carrier": "AA"}, layout=fewer, version=5))
    writing.add(answered(model="taxi"))
    writing.start()
    writing.stop()
    assert len(files(home)) == 2
    assert len(files(home, "taxi")) == 1
    assert [batch.schema.names[7:] for batch in read(home, "flights", since=MOMENT)] == [
        ["carrier", "distance", "weekday"],
        ["carrier"],
    ]


def test_a_file_grows_until_it_is_old_or_large(home: Home) -> None:
    """Quiet hours leave a file every FILE_S seconds, busy ones a file every FILE_ROWS rows; no row is lost or double."""
    now = [AT]
    writer = PredictionFiles(home, BIG, lambda: now[0])
    for number in range(3):
        writer.write([answered(request_id=f"young {number}")])
        now[0] += FILE_S / 4
    assert len(files(home)) == 1
    now[0] += FILE_S
    writer.write([answered(*[ROW] * FILE_ROWS, request_id="large")])
    writer.write([answered(request_id="next")])
    assert len(files(home)) == 3
    assert [row["ct_request_id"] for row in kept(home) if row["ct_row"] == 0] == [
        "young 0",
        "young 1",
        "young 2",
        "large",
        "next",
    ]


def test_a_write_that_fails_leaves_the_file_as_it_was(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills half-way through a file: readers have the rows from before, and no rest lies about."""
    writer = PredictionFiles(home, BIG, lambda: AT)
    writer.write([answered(request_id="before")])

    def fills(table: pa.Table, path: Path, **_: Any) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(prediction_files.pq, "write_table", fills)
        with pytest.raises(OSError, match="No space"):
            writer.write([answered(request_id="lost")])
    assert len(files(home)) == 1
    writer.write([answered(request_id="after")])
    assert [row["ct_request_id"] for row in kept(home)] == ["before", "after"]


def test_an_unwritable_disk_is_said_once_and_counted_and_the_log_recovers(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    """Three failures are one line and three dropped rows; recovery is said once, and what fails after it again."""
    folder = home.predictions("flights")
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    writing = log(home, every_s=0.01)
    writing.start()
    for dropped in (1, 2, 3):
        writing.add(answered())
        assert becomes(lambda dropped=dropped: writing.dropped == dropped)
    folder.unlink()
    writing.add(answered(request_id="after"))
    assert becomes(lambda: writing.written == 1)
    writing.add(answered(model="taxi"))
    assert becomes(lambda: writing.written == 2)
    shutil.rmtree(home.root / "predictions")
    (home.root / "predictions").write_text("again a file")
    writing.add(answered())
    writing.stop()
    lines = [record.getMessage() for record in caplog.records if record.name == "ct.serving"]
    assert [line.partition(";")[0] for line in lines] == [
        "the prediction log cannot be written",
        "the prediction log is written again",
        "the prediction log cannot be written",
    ]
    assert "dropped until now: 3" in lines[1]


def test_whatever_one_model_meets_the_others_are_kept(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    """A fault that nobody foresaw costs the rows it met, is logged with its traceback, and ends no thread."""
    writing = log(home)
    writing.start()
    writing.add(answered(model="broken", predictions=[0.1, 0.2]))
    writing.add(answered())
    writing.stop()
    assert (writing.written, writing.dropped) == (1, 1)
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]


def test_a_feature_named_like_a_column_of_the_log_is_refused_by_name(home: Home) -> None:
    """Two columns of one name could not be told apart later."""
    layout = Layout((Feature(name="ct_version", dtype="int64"),))
    with pytest.raises(ReservedNameError, match='"ct_version"'):
        PredictionFiles(home, BIG, lambda: AT).write([answered({"ct_version": 1}, layout=layout)])


def test_a_request_without_rows_leaves_nothing(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    """There is no row to keep, and nothing to fail on."""
    writing = log(home)
    empty = from_objects(LAYOUT, (), "instances")
    writing.add(answered(rows=empty, predictions=[]))
    writing.start()
    writing.stop()
    assert (writing.written, writing.dropped, files(home), caplog.records) == (0, 0, [], [])


def test_past_the_budget_the_oldest_files_of_all_workers_go(home: Home) -> None:
    """Files of workers that ended, unfinished ones too, count and go first; emptied days go with them; the newest stay."""
    folder = home.predictions("flights")
    for number, name in enumerate(("2025-12-30/1.parquet", "2025-12-31/.2.parquet.tmp", "2026-01-01/3.parquet")):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 1000)
        os.utime(path, (AT + number, AT + number))
    writer = PredictionFiles(home, 1500, lambda: AT)
    writer.write([answered()])
    assert [name.partition("/")[0] for name in files(home)] == ["2026-01-01", "2026-01-02"]
    assert sorted(path.name for path in folder.iterdir()) == ["2026-01-01", "2026-01-02"]


def test_the_budget_holds_while_a_worker_writes_on(home: Home) -> None:
    """After many files there are as many bytes as the budget and one file more at most."""
    now = [AT]
    writer = PredictionFiles(home, 20_000, lambda: now[0])
    for _ in range(30):
        writer.write([answered()])
        now[0] += FILE_S
    sizes = [path.stat().st_size for path in home.predictions("flights").glob("*/*")]
    assert 1 < len(sizes) < 30
    assert sum(sizes) <= 20_000 + max(sizes)


def test_files_that_another_worker_removed_first_are_no_error(tmp_path: Path) -> None:
    """Workers share the folder and tidy it at the same time."""
    (tmp_path / "there").write_bytes(b"x" * 10)
    remove_oldest([tmp_path / "gone", tmp_path / "there"], 5)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_gets_the_period_and_the_variants_it_asks_for(home: Home) -> None:
    """`since` is in, `until` is out; shadows, which no client saw, come only when asked for."""
    now = [AT]
    writer = PredictionFiles(home, BIG, lambda: now[0])
    for minutes in (0, 10, 20):
        now[0] = AT + 60 * minutes
        for variant in ("champion", "shadow"):
            writer.write([answered(request_id=str(minutes), variant=variant, at=now[0])])
    minute = timedelta(minutes=1)
    assert [row["ct_request_id"] for row in kept(home)] == ["0", "10", "20"]
    assert [row["ct_request_id"] for row in kept(home, since=MOMENT + 10 * minute)] == ["10", "20"]
    period = {"since": MOMENT, "until": MOMENT + 20 * minute}
    assert [row["ct_request_id"] for row in kept(home, **period)] == ["0", "10"]
    assert [row["ct_variant"] for row in kept(home, variants=("shadow",))] == ["shadow"] * 3
    assert kept(home, "unheard_of") == []


def test_rows_of_a_file_that_began_before_the_period_are_found(home: Home) -> None:
    """A file is named for its beginning and grows; rows that came later are in it."""
    now = [AT]
    writer = PredictionFiles(home, BIG, lambda: now[0])
    writer.write([answered(request_id="early")])
    now[0] = AT + FILE_S - 1
    writer.write([answered(request_id="late", at=now[0])])
    assert [row["ct_request_id"] for row in kept(home, since=MOMENT + timedelta(seconds=FILE_S - 2))] == ["late"]


def test_damaged_files_are_named_and_left_out(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    """A file cut by a power failure and a Parquet file of someone else cost a warning each; unfinished files none."""
    PredictionFiles(home, BIG, lambda: AT).write([answered()])
    folder = home.predictions("flights") / "2026-01-02"
    (folder / "030500Z-1-1.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"x": [1]}), folder / "030600Z-1-1.parquet")
    (folder / ".030700Z-1-1.parquet.tmp").write_bytes(b"PAR1")
    skipped: list[str] = []
    assert len(kept(home, skipped=skipped)) == 1
    assert [line.partition(": ")[0][-19:] for line in skipped] == ["030500Z-1-1.parquet", "030600Z-1-1.parquet"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_a_file_that_vanishes_while_it_is_read_is_passed_over(home: Home) -> None:
    """The budget may take a file between the listing and the look; the rest is read."""
    now = [AT]
    writer = PredictionFiles(home, BIG, lambda: now[0])
    for _ in range(3):
        writer.write([answered()])
        now[0] += FILE_S
    skipped: list[str] = []
    batches = read(home, "flights", since=MOMENT - timedelta(days=1), skipped=skipped)
    next(batches)
    sorted(home.predictions("flights").glob("*/*"))[1].unlink()
    assert len(list(batches)) == 1
    assert skipped == []
