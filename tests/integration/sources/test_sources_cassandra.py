"""A real Cassandra as a source: what is offered, fetched, revised and refused."""

from __future__ import annotations

import dataclasses
import threading
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster
from spans import NOON_OF_5_JANUARY, newest, read

from ct.errors import SourceChangedError, SourceError
from ct.source_config import CassandraSourceConfig
from ct.sources.cassandra import CassandraSource
from ct.sources.columns import ColumnType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from source_servers import Server

SCHEMA_S = 60.0
DAYS = ("2013-01-01", "2013-01-02", "2013-01-03", "2013-01-04", "2013-01-05")


@contextmanager
def writing(server: Server) -> Iterator[Any]:
    """A session that may write."""
    there = server.connection
    with Cluster(
        ["127.0.0.1"], port=there.port, auth_provider=PlainTextAuthProvider(there.login, there.password)
    ) as cluster:
        session = cluster.connect()
        session.default_timeout = SCHEMA_S
        yield session


@pytest.fixture
def flights(cassandra: Server) -> Server:
    """A table `flights` with two shards a day and three rows a shard, of 1 to 5 January 2013."""
    with writing(cassandra) as session:
        session.execute(
            "CREATE KEYSPACE IF NOT EXISTS air WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        session.execute(
            "CREATE TABLE IF NOT EXISTS air.flights (day text, shard int, at timestamp, number int, carrier text, "
            "PRIMARY KEY ((day, shard), at))"
        )
        session.execute("TRUNCATE air.flights")
        insert = session.prepare("INSERT INTO air.flights (day, shard, at, number, carrier) VALUES (?, ?, ?, ?, ?)")
        for day in DAYS:
            for shard in (1, 0):
                for hour in (9, 0, 18):
                    at = datetime.fromisoformat(f"{day}T{hour:02d}:00:00+00:00")
                    session.execute(insert, (day, shard, at, shard * 100 + hour, "aa"))
    return cassandra


def source(server: Server, *, now: float = NOON_OF_5_JANUARY, **change: Any) -> CassandraSource:
    """The source of `flights`, as of noon on 5 January."""
    settings = {
        "kind": "cassandra",
        "connection": "events",
        "keyspace": "air",
        "table": "flights",
        "bucket": "day",
        **change,
    }
    return CassandraSource(CassandraSourceConfig.model_validate(settings), server.connection, lambda: now)


def test_closed_days_are_spans_and_today_is_not(flights: Server) -> None:
    """A day that still fills says until when."""
    look = source(flights).look(None)
    assert [offered.name for offered in look.offered] == list(DAYS[:4])
    assert [(unready.name, unready.reason) for unready in look.unready] == [
        ("2013-01-05", "it fills until 2013-01-06T00:05:00Z")
    ]
    assert look.offered[0].uri.endswith("/air/flights#2013-01-01")


def test_a_span_may_be_wider_than_a_partition(flights: Server) -> None:
    """Days make a week; the week from 31 December ends on 6 January."""
    (week,) = source(flights, span="week", now=NOON_OF_5_JANUARY + 2 * 86400).look(None).offered
    assert (week.name, week.fingerprint[:7]) == ("2013-W01", "30 rows")


def test_buckets_that_are_no_time_are_closed_by_the_next_one(flights: Server) -> None:
    """The last one may still fill."""
    look = source(flights, span=None).look(None)
    assert [offered.name for offered in look.offered] == list(DAYS[:4])
    assert look.unready[0].reason == "no later bucket has rows, so it may still fill"


def test_the_rows_come_by_partition_and_clustering_key_and_the_reader_takes_them(
    flights: Server, tmp_path: Path
) -> None:
    """Shard 0 before shard 1, each by time; the same bytes each time."""
    here = source(flights)
    path = here.fetch(here.look(None).offered[0], tmp_path)
    first = path.read_bytes()
    text, number = ColumnType.STRING, ColumnType.INT
    table = read(path, day=text, shard=number, at=text, number=number, carrier=text)
    assert table["number"].to_pylist() == [0, 9, 18, 100, 109, 118]
    assert table["at"][1].as_py() == "2013-01-01T09:00:00Z"
    assert here.fetch(here.look(None).offered[0], tmp_path).read_bytes() == first


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO air.flights (day, shard, at, number) VALUES ('2013-01-03', 0, '2013-01-03 05:00Z', 1)",
        "INSERT INTO air.flights (day, shard, at, number) VALUES ('2013-01-03', 7, '2013-01-03 05:00Z', 1)",
        "UPDATE air.flights SET carrier = 'other' WHERE day = '2013-01-03' AND shard = 0 AND at = '2013-01-03 09:00Z'",
        "DELETE FROM air.flights WHERE day = '2013-01-03' AND shard = 0 AND at = '2013-01-03 09:00Z'",
    ],
    ids=["late", "late in a new partition", "updated", "deleted"],
)
def test_a_late_a_changed_and_a_deleted_row_change_the_fingerprint(flights: Server, change: str) -> None:
    """Of their own day only."""
    here = source(flights)
    before = {offered.name: offered.fingerprint for offered in here.look(None).offered}
    assert before == {offered.name: offered.fingerprint for offered in here.look(None).offered}
    with writing(flights) as session:
        session.execute(change)
    after = {offered.name: offered.fingerprint for offered in here.look(None).offered}
    assert [name for name in before if before[name] != after[name]] == ["2013-01-03"]


def test_what_changed_after_the_look_is_not_taken_for_what_was_offered(flights: Server, tmp_path: Path) -> None:
    """The next look offers it anew."""
    here = source(flights)
    offered = here.look(None).offered[0]
    with writing(flights) as session:
        session.execute(
            "UPDATE air.flights SET number = 1 WHERE day = '2013-01-01' AND shard = 0 AND at = '2013-01-01 09:00Z'"
        )
    with pytest.raises(SourceChangedError, match="has changed since it was offered"):
        here.fetch(offered, tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_days_from_the_newest_span_on_and_some_before_are_looked_at(flights: Server) -> None:
    """`revisit` says how many; a name from another source hides nothing."""
    here = source(flights, revisit=1)
    assert [offered.name for offered in here.look(newest("2013-01-03")).offered] == list(DAYS[1:4])
    assert [offered.name for offered in here.look(newest("flights-2013-02")).offered] == list(DAYS[:4])


def test_a_bucket_that_names_no_time_is_told(flights: Server) -> None:
    """Its rows are in no span."""
    with writing(flights) as session:
        session.execute("INSERT INTO air.flights (day, shard, at, number) VALUES ('soon', 0, 0, 1)")
    (unready,) = [unready for unready in source(flights).look(None).unready if unready.name == "(none)"]
    assert unready.reason == "1 partitions, such as 'soon', name no day in day"


def test_special_types_become_what_the_reader_takes(cassandra: Server, flights: Server, tmp_path: Path) -> None:
    """Numbers as numbers, times as times, everything else as text, collections as JSON."""
    with writing(cassandra) as session:
        session.execute(
            "CREATE TABLE IF NOT EXISTS air.special (day date PRIMARY KEY, big bigint, whole varint, price decimal, "
            "yes boolean, raw blob, key uuid, list list<int>, map map<text, int>, tags set<text>, frozen frozen<list<int>>, "
            'half float, clock time, host inet, gap int, at timestamp, "Quoted ""name""" text)'
        )
        session.execute(
            "INSERT INTO air.special (day, big, whole, price, yes, raw, key, list, map, tags, frozen, half, clock, host, at, "
            '"Quoted ""name""") VALUES (\'2013-01-02\', 9007199254740993, 12, 1.25, true, 0x00ff, '
            "00000000-0000-0000-0000-000000000001, [1, 2], {'a': 1}, {'y', 'x'}, [3], 0.5, '10:30:00', '1.2.3.4', "
            "'2013-01-02 05:00:00.123Z', 'a''b')"
        )
    here = source(flights, table="special")
    (row,) = pq.read_table(here.fetch(here.look(None).offered[0], tmp_path)).to_pylist()
    assert row == {
        "day": "2013-01-02",
        "big": 9007199254740993,
        "whole": 12.0,
        "price": 1.25,
        "yes": True,
        "raw": b"\x00\xff",
        "key": "00000000-0000-0000-0000-000000000001",
        "list": "[1, 2]",
        "map": '{"a": 1}',
        "tags": '["x", "y"]',
        "frozen": "[3]",
        "half": 0.5,
        "clock": "10:30:00.000000000",
        "host": "1.2.3.4",
        "gap": None,
        "at": datetime(2013, 1, 2, 5, 0, 0, 123000, tzinfo=timezone.utc),
        'Quoted "name"': "a'b",
    }


def test_only_the_named_columns_are_read(flights: Server, tmp_path: Path) -> None:
    """In the named order, without the bucket."""
    here = source(flights, columns=["number", "at"])
    table = pq.read_table(here.fetch(here.look(None).offered[0], tmp_path))
    assert table.schema.names == ["number", "at"]
    assert sorted(table["number"].to_pylist()) == [0, 9, 18, 100, 109, 118]


def test_a_partition_of_many_pages_is_fetched_whole(flights: Server, tmp_path: Path) -> None:
    """12,001 rows come in three pages."""
    with writing(flights) as session:
        insert = session.prepare("INSERT INTO air.flights (day, shard, at, number) VALUES ('2013-01-02', 9, ?, ?)")
        waiting = [session.execute_async(insert, (number, number)) for number in range(12_001)]
        for future in waiting:
            future.result()
    here = source(flights)
    offered = here.look(None).offered[1]
    numbers = pq.read_table(here.fetch(offered, tmp_path))["number"].to_pylist()
    assert numbers[6:] == list(range(12_001))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"table": "nowhere"}, "there is no table nowhere in the keyspace air"),
        ({"keyspace": "nowhere"}, "there is no table flights in the keyspace nowhere"),
        ({"columns": ["at", "carrer"]}, "it has no column carrer; columns: day, shard, at"),
        ({"bucket": "at"}, r"its partition key is \(day, shard\), without at"),
    ],
)
def test_a_wrong_table_or_bucket_is_explained(flights: Server, change: dict[str, str], reason: str) -> None:
    """With what is there instead."""
    with pytest.raises(SourceError, match=reason):
        source(flights, **change).look(None)


def test_wrong_credentials_are_an_error_without_the_secret(flights: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the password nor the user stand in it, in the chain of its causes, or in a log."""
    wrong = dataclasses.replace(flights.connection, login="j0hn", password="wr/ong-s3cret")
    here = CassandraSource(
        CassandraSourceConfig(kind="cassandra", connection="events", keyspace="air", table="flights", bucket="day"),
        wrong,
    )
    with pytest.raises(SourceError, match="Bad credentials") as refused:
        here.look(None)
    assert refused.value.__cause__ is None
    for secret in ("wr/ong-s3cret", "j0hn"):
        assert secret not in str(refused.value) + repr(refused.value.facts) + repr(wrong) + caplog.text


def test_no_thread_is_left_behind(flights: Server, tmp_path: Path) -> None:
    """A watcher looks for months. The driver's event loop is one for the process."""
    here = source(flights)
    offered = here.look(None).offered[0]
    before = threading.active_count()
    for _ in range(3):
        here.fetch(offered, tmp_path)
    assert threading.active_count() <= before


def test_a_server_that_goes_away_is_an_error_and_works_again(flights: Server, tmp_path: Path) -> None:
    """The same source object needs nothing done to it."""
    here = source(flights)
    before = here.look(None)
    flights.stop()
    try:
        with pytest.raises(SourceError, match="Nothing was recorded; the next look tries again"):
            here.look(None)
    finally:
        flights.start()
    assert here.look(None) == before
    assert pq.read_table(here.fetch(before.offered[0], tmp_path)).num_rows == 6
