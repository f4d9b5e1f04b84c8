"""A real PostgreSQL as a source: what is offered, fetched, revised, refused, and what memory it takes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil
import pyarrow.parquet as pq
import pytest
from postgres_tables import source, writing
from spans import NOON_OF_5_JANUARY, newest, read

from ct.errors import SourceChangedError, SourceError
from ct.source_config import PostgresSourceConfig
from ct.sources.columns import ColumnType
from ct.sources.postgres import PostgresSource
from ct.sources.postgres_query import number_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from source_servers import Server


@pytest.fixture
def flights(postgres: Server) -> Server:
    """A table `flights` with a row each six hours of 1 to 5 January 2013."""
    with writing(postgres) as cursor:
        cursor.execute("DROP TABLE IF EXISTS flights CASCADE")
        cursor.execute("CREATE TABLE flights (at timestamptz, number int, carrier text)")
        cursor.execute(
            "INSERT INTO flights SELECT timestamptz '2013-01-01 00:00+00' + n * interval '6 hours', n, 'c' || n % 3 "
            "FROM generate_series(0, 19) AS n"
        )
    return postgres


def names(server: Server, **change: Any) -> list[str]:
    """What is offered at the first look."""
    return [offered.name for offered in source(server, **change).look(None).offered]


def test_closed_days_are_spans_and_today_is_not(flights: Server) -> None:
    """A day that still fills says until when."""
    look = source(flights).look(None)
    assert [offered.name for offered in look.offered] == ["2013-01-01", "2013-01-02", "2013-01-03", "2013-01-04"]
    assert [(unready.name, unready.reason) for unready in look.unready] == [
        ("2013-01-05", "it fills until 2013-01-06T00:05:00Z")
    ]
    assert look.offered[0].uri.endswith("/postgres/flights#2013-01-01")


def test_lateness_keeps_a_day_open(flights: Server) -> None:
    """With 13 hours of patience, yesterday is not closed at noon."""
    assert names(flights, lateness_s=13 * 3600.0)[-1] == "2013-01-03"


@pytest.mark.parametrize(
    ("unit", "first", "count"), [("hour", "2013-01-01T00", 18), ("week", "2013-W01", 1), ("month", "2013-01", 1)]
)
def test_a_span_may_be_an_hour_a_week_or_a_month(flights: Server, unit: str, first: str, count: int) -> None:
    """The name says which; all are UTC."""
    later = NOON_OF_5_JANUARY + 60 * 86400 if unit in ("week", "month") else NOON_OF_5_JANUARY
    found = names(flights, span=unit, now=later)
    assert (found[0], len(found)) == (first, count)


def test_numbers_are_spans_of_so_many_once_a_later_one_has_come(flights: Server) -> None:
    """Of 0 to 19 by tens, 10 to 19 may still fill."""
    assert names(flights, watermark="number", span=10) == [number_name(0)]


def test_the_rows_come_as_parquet_in_the_order_of_the_watermark(flights: Server, tmp_path: Path) -> None:
    """Exactly those of the span."""
    here = source(flights)
    table = pq.read_table(here.fetch(here.look(None).offered[1], tmp_path))
    assert table["number"].to_pylist() == [4, 5, 6, 7]
    assert table.schema.names == ["at", "number", "carrier"]


def test_the_same_rows_give_the_same_bytes_whatever_their_order_in_the_table(flights: Server, tmp_path: Path) -> None:
    """A table that was rewritten in another order, with ties in the watermark, is no revision."""
    with writing(flights) as cursor:
        cursor.execute("INSERT INTO flights SELECT at, number + 100, NULL FROM flights")
    here = source(flights, span="month", now=NOON_OF_5_JANUARY + 60 * 86400)
    before = hashlib.sha256(here.fetch(here.look(None).offered[0], tmp_path).read_bytes())
    with writing(flights) as cursor:
        cursor.execute("CREATE TABLE other AS SELECT * FROM flights ORDER BY number DESC")
        cursor.execute("DROP TABLE flights")
        cursor.execute("ALTER TABLE other RENAME TO flights")
    after = hashlib.sha256(here.fetch(here.look(None).offered[0], tmp_path).read_bytes())
    assert before.hexdigest() == after.hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO flights VALUES ('2013-01-03 01:00+00', 99, 'late')",
        "UPDATE flights SET carrier = 'other' WHERE number = 9",
        "DELETE FROM flights WHERE number = 9",
    ],
    ids=["late", "updated", "deleted"],
)
@pytest.mark.parametrize(
    "of", [{"table": "flights"}, {"table": "seen"}, {"table": None, "query": "SELECT * FROM flights"}]
)
def test_a_late_a_changed_and_a_deleted_row_change_the_fingerprint(
    flights: Server, change: str, of: dict[str, str]
) -> None:
    """Of their own day only; in a table, a view and a query."""
    with writing(flights) as cursor:
        cursor.execute("CREATE VIEW seen AS SELECT * FROM flights")
    here = source(flights, **of)
    before = {offered.name: offered.fingerprint for offered in here.look(None).offered}
    assert before == {offered.name: offered.fingerprint for offered in here.look(None).offered}
    with writing(flights) as cursor:
        cursor.execute(change)
    after = {offered.name: offered.fingerprint for offered in here.look(None).offered}
    assert [name for name in before if before[name] != after[name]] == ["2013-01-03"]


def test_only_days_from_the_newest_span_on_and_some_before_are_looked_at(flights: Server) -> None:
    """`revisit` says how many."""
    look = source(flights, revisit=1).look(newest("2013-01-03"))
    assert [offered.name for offered in look.offered] == ["2013-01-02", "2013-01-03", "2013-01-04"]


def test_a_newest_span_of_another_source_hides_nothing(flights: Server) -> None:
    """After a swap of the source, its names mean nothing here."""
    assert len(source(flights).look(newest("flights-2013-02")).offered) == 4


def test_what_changed_after_the_look_is_not_taken_for_what_was_offered(flights: Server, tmp_path: Path) -> None:
    """The next look offers it anew."""
    here = source(flights)
    offered = here.look(None).offered[0]
    with writing(flights) as cursor:
        cursor.execute("UPDATE flights SET number = 50 WHERE number = 1")
    with pytest.raises(SourceChangedError, match="has changed since it was offered"):
        here.fetch(offered, tmp_path)
    assert not list(tmp_path.iterdir())


def test_rows_without_a_usable_time_are_told(flights: Server) -> None:
    """They are in no span, also when only new days are looked at."""
    with writing(flights) as cursor:
        cursor.execute("INSERT INTO flights VALUES (NULL, 1, 'x'), ('infinity', 2, 'y')")
    (unready,) = [unready for unready in source(flights).look(newest("2013-01-03")).unready if unready.name == "(none)"]
    assert unready.reason == "2 rows have no usable value in at, so they are in no span"


def test_special_types_become_what_the_reader_takes(flights: Server, tmp_path: Path) -> None:
    """Numbers as numbers, times as times, everything else as text; null stays null and infinity is no time."""
    with writing(flights) as cursor:
        cursor.execute("DROP TABLE IF EXISTS special")
        cursor.execute(
            """CREATE TABLE special AS SELECT timestamp '2013-01-01 05:00' AS at, 1.25::numeric AS price,
            900719925474099301::numeric(18, 0) AS id, true AS yes, NULL::int AS gap, '{"a": 1}'::json AS facts,
            date '2013-01-02' AS day, time '10:30' AS clock, '00000000-0000-0000-0000-000000000001'::uuid AS key,
            ARRAY[1, 2] AS list, 'infinity'::timestamptz AS never, '\\x00ff'::bytea AS raw, 'NaN'::float8 AS odd,
            interval '1 day' AS length, 'é'::varchar AS word, '1.2.3.4'::inet AS host, 7::smallint AS small,
            'a"b'::text AS "Quoted ""name"" "
            """
        )
    here = source(flights, table="special")
    (row,) = pq.read_table(here.fetch(here.look(None).offered[0], tmp_path)).to_pylist()
    assert row.pop("odd") != row.get("odd")
    assert row == {
        "at": datetime(2013, 1, 1, 5),  # noqa: DTZ001  a timestamp without a zone
        "price": 1.25,
        "id": 900719925474099301,
        "yes": True,
        "gap": None,
        "facts": '{"a": 1}',
        "day": "2013-01-02",
        "clock": "10:30:00",
        "key": "00000000-0000-0000-0000-000000000001",
        "list": "{1,2}",
        "never": None,
        "raw": b"\x00\xff",
        "length": "P1D",
        "word": "é",
        "host": "1.2.3.4/32",
        "small": 7,
        'Quoted "name" ': 'a"b',
    }


def test_a_query_sees_utc_and_iso_dates_whatever_the_server_is_set_to(flights: Server, tmp_path: Path) -> None:
    """The same query gives the same bytes for every user and server."""
    with writing(flights) as cursor:
        cursor.execute("ALTER ROLE CURRENT_USER SET timezone = 'Asia/Tokyo'")
        cursor.execute("ALTER ROLE CURRENT_USER SET datestyle = 'SQL, DMY'")
    try:
        here = source(
            flights, table=None, query="SELECT at, extract(hour FROM at)::int AS hour, at::date AS day FROM flights"
        )
        table = pq.read_table(here.fetch(here.look(None).offered[0], tmp_path))
    finally:
        with writing(flights) as cursor:
            cursor.execute("ALTER ROLE CURRENT_USER RESET ALL")
    assert table["hour"].to_pylist() == [0, 6, 12, 18]
    assert set(table["day"].to_pylist()) == {"2013-01-01"}


def test_no_name_becomes_sql(flights: Server) -> None:
    """A table or column is found by its exact name or not at all."""
    for change in ({"table": 'flights"; DROP TABLE flights; --'}, {"watermark": 'at"; DROP TABLE flights; --'}):
        with pytest.raises(SourceError):
            source(flights, **change).look(None)
    assert names(flights)


def test_a_query_cannot_write(flights: Server) -> None:
    """It runs in a read-only transaction."""
    with writing(flights) as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION emptied() RETURNS timestamptz LANGUAGE plpgsql AS "
            "$$ BEGIN DELETE FROM flights; RETURN now(); END $$"
        )
    with pytest.raises(SourceError, match="read-only transaction"):
        source(flights, table=None, query="SELECT emptied() AS at").look(None)
    assert names(flights)


def test_a_wrong_watermark_is_explained(flights: Server) -> None:
    """What it is, and what it must be."""
    with pytest.raises(SourceError, match="must be date or timestamp or timestamptz, and carrier is text"):
        source(flights, watermark="carrier").look(None)
    with pytest.raises(SourceError, match="time is not among at, number, carrier"):
        source(flights, watermark="time").look(None)


def test_wrong_credentials_are_an_error_without_the_secret(flights: Server) -> None:
    """Neither the password nor the user stand in it, nor in the chain of its causes."""
    wrong = dataclasses.replace(flights.connection, password="wr/ong-s3cret")
    here = PostgresSource(
        PostgresSourceConfig(kind="postgres", connection="warehouse", table="flights", watermark="at"), wrong
    )
    with pytest.raises(SourceError, match="password authentication failed") as refused:
        here.look(None)
    assert refused.value.__cause__ is None
    for secret in ("wr/ong-s3cret", quote("wr/ong-s3cret", safe=""), str(wrong.login)):
        assert secret not in str(refused.value) + repr(refused.value.facts) + repr(here) + repr(wrong)


def test_a_server_that_goes_away_is_an_error_and_works_again(flights: Server, tmp_path: Path) -> None:
    """The same source object needs nothing done to it."""
    here = source(flights)
    before = here.look(None)
    flights.stop()
    try:
        with pytest.raises(SourceError, match="Nothing was recorded; the next look tries again"):
            here.look(None)
        with pytest.raises(SourceError):
            here.fetch(before.offered[0], tmp_path)
    finally:
        flights.start()
    assert here.look(None) == before
    assert pq.read_table(here.fetch(before.offered[0], tmp_path)).num_rows == 4


def test_no_connection_is_left_behind(flights: Server, tmp_path: Path) -> None:
    """Neither after a look, nor after a fetch, nor after an error."""
    here = source(flights)
    here.fetch(here.look(None).offered[0], tmp_path)
    with pytest.raises(SourceError):
        source(flights, table="nowhere").look(None)
    with writing(flights) as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'ct'")
        assert cursor.fetchall() == []


@pytest.fixture
def million(postgres: Server) -> Server:
    """A table `many` with 1,000,000 rows on one day."""
    with writing(postgres) as cursor:
        cursor.execute("DROP TABLE IF EXISTS many")
        cursor.execute(
            "CREATE TABLE many AS SELECT timestamp '2013-01-01' + n * interval '50 ms' AS at, n AS number, "
            "md5(n::text) AS text, random() AS value FROM generate_series(0, 999999) AS n"
        )
    return postgres


def test_a_million_rows_are_fetched_in_bounded_memory(million: Server, tmp_path: Path) -> None:
    """Less than 200 MB, which the rows alone exceed several times over as Python values; they are all there."""
    here = source(million, table="many")
    offered = here.look(None).offered[0]
    with peak_growth() as grown:
        path = here.fetch(offered, tmp_path)
    assert grown() < 200 << 20
    with pq.ParquetFile(path) as file:
        assert file.metadata.num_rows == 1_000_000
        assert file.metadata.row_group(0).num_rows == 65_536


def test_a_server_that_dies_in_the_middle_of_a_fetch_is_an_error(million: Server, tmp_path: Path) -> None:
    """Not a short span."""
    here = source(million, table="many")
    offered = here.look(None).offered[0]
    path = tmp_path / f"{offered.name}.parquet"
    ended = threading.Thread(target=stop_when, args=(million, path))
    ended.start()
    try:
        with pytest.raises(SourceError):
            here.fetch(offered, tmp_path)
    finally:
        ended.join()
        million.start()


def stop_when(server: Server, path: Path) -> None:
    """Stop the server as soon as rows have been written."""
    until = threading.Event()
    for _ in range(3000):
        if path.exists() and path.stat().st_size > 1 << 20:
            break
        until.wait(0.01)
    server.stop()


def test_the_reader_takes_a_fetched_span(flights: Server, tmp_path: Path) -> None:
    """The file is one that ct.sources.reader reads without a quarantined row."""
    here = source(flights)
    path = here.fetch(here.look(None).offered[0], tmp_path)
    table = read(path, at=ColumnType.STRING, number=ColumnType.FLOAT, carrier=ColumnType.STRING)
    assert table.slice(1, 1).to_pylist() == [{"at": "2013-01-01T06:00:00Z", "number": 1.0, "carrier": "c1"}]


@contextmanager
def peak_growth() -> Iterator[Any]:
    """How far the process' resident memory rose above where it began, in bytes; asked for afterwards."""
    process, ended, peak = psutil.Process(os.getpid()), threading.Event(), [0]
    begin = process.memory_info().rss

    def watch() -> None:
        while not ended.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss - begin)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: peak[0]
    finally:
        ended.set()
        watcher.join()
