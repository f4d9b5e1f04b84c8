"""A table on its way into the ledger: the scanner over a real PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from postgres_tables import source, writing

from ct.airflow.scan import Scanner
from ct.home import Home
from ct.source_config import PostgresSourceConfig
from ct.triggers.ledger import Ledger

if TYPE_CHECKING:
    from pathlib import Path

    from source_servers import Server

POLICY = PostgresSourceConfig(kind="postgres", connection="warehouse", table="landings", watermark="at")


@pytest.fixture
def landings(postgres: Server) -> Server:
    """A table `landings` with a row on each of the first four days of 2013."""
    with writing(postgres) as cursor:
        cursor.execute("DROP TABLE IF EXISTS landings")
        cursor.execute(
            "CREATE TABLE landings AS SELECT timestamp '2013-01-01' + n * interval '1 day' AS at, n AS number "
            "FROM generate_series(0, 3) AS n"
        )
    return postgres


def scanner(server: Server, home: Home, **change: Any) -> Scanner:
    """As a watcher that has just been started has it."""
    here = source(server, table="landings", **change)
    return Scanner("flights", here, Ledger.open(home), POLICY, home.fetched("flights"))


def landed(scan: Scanner) -> list[tuple[str, int]]:
    """Name and revision of what a look found to be new."""
    return [(span.name, span.revision) for span in scan.look().landed]


def test_days_land_once_and_a_late_row_is_a_revision(landings: Server, tmp_path: Path) -> None:
    """Also for the next watcher, which knows the ledger only."""
    home = Home(tmp_path).create()
    assert landed(scanner(landings, home)) == [(f"2013-01-0{day}", 1) for day in (1, 2, 3, 4)]
    assert landed(scanner(landings, home)) == []
    with writing(landings) as cursor:
        cursor.execute("INSERT INTO landings VALUES ('2013-01-03 20:00', 99)")
    scan = scanner(landings, home)
    assert landed(scan) == [("2013-01-03", 2)]
    assert landed(scan) == []


def test_rows_that_were_rewritten_as_they_were_are_a_duplicate(landings: Server, tmp_path: Path) -> None:
    """Their fingerprint is another, their bytes are not."""
    home = Home(tmp_path).create()
    scan = scanner(landings, home)
    scan.look()
    with writing(landings) as cursor:
        cursor.execute("UPDATE landings SET number = number")
    assert landed(scan) == []


def test_a_late_row_before_the_buckets_that_are_revisited_is_not_seen(landings: Server, tmp_path: Path) -> None:
    """`revisit` bounds what a look costs."""
    home = Home(tmp_path).create()
    scanner(landings, home, revisit=1).look()
    with writing(landings) as cursor:
        cursor.execute("INSERT INTO landings VALUES ('2013-01-02 20:00', 99)")
    assert landed(scanner(landings, home, revisit=1)) == []
    assert landed(scanner(landings, home, revisit=2)) == [("2013-01-02", 2)]
