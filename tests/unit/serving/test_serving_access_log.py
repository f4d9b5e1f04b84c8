"""The access log: a whole JSON line a request, bounded files, and that nothing harms a request."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ct.home import Home
from serving.logs import access_log
from serving.logs.access_log import FILES, AccessLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AT = 1_767_323_045.0567
NAME = f"access-{os.getpid()}.jsonl"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path / "home").create()


def add(
    log: AccessLog, request_id: str = "r1", path: str = "/v1/models/flights:predict", token: str | None = None
) -> None:
    """Note a request that was answered."""
    log.add(
        *(AT, request_id, "4bf9", "127.0.0.1", "POST", path, 200, "flights", 3, "champion", "tfs"),
        *(2, 350, 30, 0.0012345, token),
    )


def lines(home: Home, name: str = NAME) -> list[dict[str, Any]]:
    """What is in a file, line by line."""
    return [json.loads(line) for line in (home.logs / name).read_text(encoding="utf-8").splitlines()]


def becomes(condition: Callable[[], bool]) -> bool:
    """Wait for what another thread does."""
    pause, end = threading.Event(), time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        pause.wait(0.005)
    return condition()


def test_a_request_is_a_line_with_all_that_was_noted(home: Home) -> None:
    """Times are UTC with milliseconds, durations milliseconds, and a token is its name."""
    log = AccessLog(home, enabled=True)
    log.start()
    add(log, token="dashboard")
    log.stop()
    assert (log.written, log.dropped) == (1, 0)
    assert lines(home) == [
        {
            "time": "2026-01-02T03:04:05.056Z",
            "request_id": "r1",
            "trace_id": "4bf9",
            "client": "127.0.0.1",
            "method": "POST",
            "path": "/v1/models/flights:predict",
            "status": 200,
            "model": "flights",
            "version": 3,
            "variant": "champion",
            "protocol": "tfs",
            "rows": 2,
            "bytes_in": 350,
            "bytes_out": 30,
            "ms": 1.234,
            "token": "dashboard",
        }
    ]


def test_lines_keep_the_order_of_the_requests(home: Home) -> None:
    """Whoever reads the file sees what happened after what, across parts too."""
    log = AccessLog(home, enabled=True)
    for number in range(500):
        add(log, str(number))
    log.start()
    log.stop()
    assert [line["request_id"] for line in lines(home)] == [str(number) for number in range(500)]


def test_a_line_is_on_disk_within_the_interval(home: Home) -> None:
    """Nobody has to stop the worker to see the last request."""
    log = AccessLog(home, enabled=True, every_s=0.01)
    log.start()
    add(log)
    assert becomes(lambda: log.written == 1)
    assert len(lines(home)) == 1
    log.stop()


def test_a_log_that_is_off_writes_and_starts_nothing(home: Home) -> None:
    """No file, no thread, and no count of drops that nobody wanted."""
    before = threading.active_count()
    log = AccessLog(home, enabled=False, limit=0)
    log.start()
    add(log)
    assert threading.active_count() == before
    log.stop()
    assert (list(home.logs.iterdir()), log.dropped) == ([], 0)


def test_a_full_buffer_drops_and_counts(home: Home) -> None:
    """What waits is bounded, and what was dropped can be seen."""
    log = AccessLog(home, enabled=True, limit=10)
    for number in range(15):
        add(log, str(number))
    assert log.dropped == 5
    log.start()
    log.stop()
    assert (log.written, len(lines(home))) == (10, 10)


def test_files_rotate_and_only_so_many_stay(home: Home) -> None:
    """The file without a number is the newest, the highest number the oldest; past FILES the oldest goes."""
    log = AccessLog(home, enabled=True, file_bytes=1, every_s=0.005)
    log.start()
    for number in range(FILES + 2):
        add(log, str(number))
        assert becomes(lambda number=number: log.written == number + 1)
    log.stop()
    kept = {path.name: [line["request_id"] for line in lines(home, path.name)] for path in home.logs.iterdir()}
    assert kept == {f"{NAME}.{place}": [str(FILES + 2 - place)] for place in range(1, FILES)}


def test_files_of_ended_workers_go_when_all_together_are_too_large(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each restart brings a new pid; the disk is bounded all the same. Other processes' logs are not touched."""
    for number in range(3):
        path = home.logs / f"access-{number}.jsonl"
        path.write_bytes(b"x" * 1000)
        os.utime(path, (AT + number, AT + number))
    (home.logs / "serving.log").write_bytes(b"x" * 5000)
    monkeypatch.setattr(access_log, "ALL_BYTES", 2500)
    log = AccessLog(home, enabled=True)
    log.start()
    add(log)
    log.stop()
    assert sorted(path.name for path in home.logs.iterdir()) == sorted(
        [NAME, "access-1.jsonl", "access-2.jsonl", "serving.log"]
    )


def test_a_disk_that_fills_leaves_no_half_line(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once however often; lines count as dropped; the file stays valid, and later lines follow when there is room."""
    write_all = access_log._write_all

    def fills(handle: int, text: bytes) -> None:
        write_all(handle, text[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    log = AccessLog(home, enabled=True, every_s=0.005)
    log.start()
    add(log, "before")
    assert becomes(lambda: log.written == 1)
    with monkeypatch.context() as patch:
        patch.setattr(access_log, "_write_all", fills)
        for dropped in (1, 2, 3):
            add(log, "lost")
            assert becomes(lambda dropped=dropped: log.dropped == dropped)
    add(log, "after")
    assert becomes(lambda: log.written == 2)
    log.stop()
    assert [line["request_id"] for line in lines(home)] == ["before", "after"]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "No space left" in errors[0]


def test_a_file_that_was_moved_away_is_begun_again(home: Home) -> None:
    """Another program may rotate or ship the files; no line goes to a file that nobody finds."""
    log = AccessLog(home, enabled=True, every_s=0.005)
    log.start()
    add(log, "one")
    assert becomes(lambda: log.written == 1)
    (home.logs / NAME).rename(home.logs / "shipped.jsonl")
    add(log, "two")
    assert becomes(lambda: log.written == 2)
    log.stop()
    assert [line["request_id"] for line in lines(home)] == ["two"]


def test_what_a_client_sends_breaks_no_line(home: Home) -> None:
    """Line ends, quotes and half characters in an id or path stay inside their line; very long ones are cut."""
    log = AccessLog(home, enabled=True)
    add(log, 'a\n"b"')
    add(log, "\ud800", path="/" + "x" * 100_000)
    add(log, "after")
    log.start()
    log.stop()
    assert [line["request_id"] for line in lines(home)] == ['a\n"b"', "\\ud800", "after"]
    assert len(lines(home)[1]["path"]) == 1024


def test_stop_is_safe_at_any_time(home: Home) -> None:
    """Before the start, twice, and with requests that are answered later than it."""
    AccessLog(home, enabled=True).stop()
    log = AccessLog(home, enabled=True)
    log.start()
    add(log)
    log.stop()
    log.stop()
    add(log)
    assert (log.written, log.dropped) == (1, 1)
