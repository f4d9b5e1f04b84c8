"""A Redis stream as a source: ranges of ids become spans, each entry in exactly one of them."""

from __future__ import annotations

import csv
import dataclasses
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import redis

from ct.errors import SourceChangedError, SourceError
from ct.source_config import RedisSourceConfig
from ct.sources.contract import Newest
from ct.sources.redis_stream import RedisStreamSource

if TYPE_CHECKING:
    from pathlib import Path

    from source_servers import Server

    from ct.sources.contract import Offered

ROWS = 100


class Stream:
    """A stream of its own."""

    def __init__(self, server: Server) -> None:
        self.connection = server.connection
        self.name = f"flights-{uuid.uuid4().hex[:8]}"
        self.client: Any = redis.Redis("127.0.0.1", server.connection.port, password=server.connection.password)

    def add(self, begin: int, end: int) -> None:
        for number in range(begin, end):
            self.client.xadd(self.name, {"number": number, "note": "one"})

    def source(self, *, age_s: float = 0.0, close_after_s: float = 60.0, **other: Any) -> RedisStreamSource:
        """The source as it sees the stream `age_s` seconds from now."""
        connection = dataclasses.replace(self.connection, **other)
        config = RedisSourceConfig(
            kind="redis", connection="cache", stream=self.name, span_rows=ROWS, close_after_s=close_after_s
        )
        return RedisStreamSource(config, connection, lambda: time.time() + age_s)


@pytest.fixture
def stream(redis_server: Server) -> Stream:
    """A new stream."""
    return Stream(redis_server)


def recorded(offered: Offered) -> Newest:
    """What the ledger has of it."""
    return Newest(offered.name, offered.uri)


def numbers(path: Path) -> list[int]:
    """The rows' numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        return [int(row["number"]) for row in csv.DictReader(file)]


def test_each_entry_is_in_exactly_one_span(stream: Stream, tmp_path: Path) -> None:
    """Whoever looks, and however often."""
    stream.add(0, 250)
    seen: list[int] = []
    since = None
    for expected in (ROWS, ROWS, 50):
        (offered,) = stream.source(age_s=100).look(since).offered
        assert stream.source(age_s=100).look(since).offered == (offered,)
        fetched = numbers(stream.source().fetch(offered, tmp_path))
        assert len(fetched) == expected
        seen += fetched
        assert since is None or since.name < offered.name
        since = recorded(offered)
    assert stream.source(age_s=100).look(since).offered == ()
    assert seen == list(range(250))


def test_a_span_waits_for_its_rows_or_its_time(stream: Stream) -> None:
    """A stream that is not there yet holds nothing."""
    assert stream.source().look(None).offered == ()
    stream.add(0, 10)
    assert stream.source().look(None).offered == ()
    assert len(stream.source(age_s=61).look(None).offered) == 1


def test_an_entry_may_hold_a_whole_row_as_json(stream: Stream, tmp_path: Path) -> None:
    """In the one field `row`; anything else is columns."""
    stream.client.xadd(stream.name, {"row": json.dumps({"number": 1, "note": None})})
    stream.client.xadd(stream.name, {"row": "no JSON"})
    stream.client.xadd(stream.name, {"number": 2, "note": b"\xff"})
    (offered,) = stream.source(age_s=100).look(None).offered
    lines = stream.source().fetch(offered, tmp_path).read_bytes().splitlines()
    assert lines == [b"number,note", b"1,", b"no JSON", b"2,\xff"]


def test_what_was_trimmed_before_it_was_read_is_said(stream: Stream, tmp_path: Path) -> None:
    """The loss has a name, and a span that was trimmed after the look is not half a span."""
    stream.add(0, 150)
    (offered,) = stream.source().look(None).offered
    (after,) = stream.source(age_s=100).look(recorded(offered)).offered
    stream.client.xtrim(stream.name, minid=stream.client.xrange(stream.name)[ROWS - 1][0], approximate=False)
    assert stream.source(age_s=100).look(recorded(offered)).unready == []  # all of it had been read
    stream.client.xtrim(stream.name, maxlen=20, approximate=False)
    look = stream.source(age_s=100).look(recorded(offered))
    assert [unready.reason.partition(" after")[0] for unready in look.unready] == ["30 entries"]
    (rest,) = look.offered
    assert numbers(stream.source().fetch(rest, tmp_path)) == list(range(130, 150))
    stream.add(150, 250)
    assert stream.source().look(recorded(rest)).unready == []
    stream.client.xtrim(stream.name, maxlen=0, approximate=False)
    with pytest.raises(SourceChangedError, match="does not hold entry"):
        stream.source().fetch(after, tmp_path)


def test_a_wrong_password_is_an_error_without_it(stream: Stream) -> None:
    """It names the server, and tells to see the connection."""
    with pytest.raises(SourceError, match="See the Airflow connection `cache`") as caught:
        stream.source(password="open-sesame").look(None)
    assert "open-sesame" not in str(caught.value)
    assert f"redis://127.0.0.1:{stream.connection.port}/0/{stream.name}" in str(caught.value)


def test_a_server_that_is_away_is_an_error(stream: Stream) -> None:
    """Another look tries again."""
    with pytest.raises(SourceError, match="cannot be read"):
        stream.source(port=1).look(None)
