"""The ledger in PostgreSQL: every test that SQLite passes, and what is PostgreSQL's own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from ct.settings import Settings
from ct.triggers.database import Database, LedgerError
from ct.triggers.ledger import Ledger
from tests.integration.ledger.conftest import PASSWORD
from tests.unit.triggers.test_triggers_database import *  # noqa: F403  the same tests, with this folder's `ledger_home`
from tests.unit.triggers.test_triggers_ends import *  # noqa: F403
from tests.unit.triggers.test_triggers_ledger import *  # noqa: F403
from tests.unit.triggers.test_triggers_ledger import arrival

if TYPE_CHECKING:
    from ct.home import Home


def test_the_ledger_is_in_postgresql(ledger_home: Home, database_url: str) -> None:
    """Nothing of it is under CT_HOME."""
    Ledger.open(ledger_home).record_landing("p", arrival("jan"))
    assert not ledger_home.ledger.exists()
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT name, state FROM spans").fetchall() == [("jan", "waiting")]


def test_the_password_is_in_no_message_and_in_no_setting_that_others_read(
    ledger_home: Home, postgresql: str, database_url: str
) -> None:
    """It stands in secrets/ alone; an error names the address without it."""
    assert PASSWORD not in (ledger_home.root / "settings.yaml").read_text()
    assert (ledger_home.secrets / "ledger_url").stat().st_mode & 0o077 == 0
    assert Settings.load(ledger_home, {}).ledger_url == database_url
    assert PASSWORD not in repr(Settings.load(ledger_home, {}))
    for url in (
        f"{postgresql}/missing",
        database_url.replace("://ct:", "://nobody:"),
        database_url.replace("ct:", "ct:x"),
    ):
        with pytest.raises(LedgerError) as raised:
            Database.open(url)
        told = f"{raised.value} {raised.value.facts} {raised.value.__cause__!r}"
        assert PASSWORD not in told
        assert "127.0.0.1" in told


def test_writers_of_one_pipeline_take_turns_and_of_two_do_not(ledger_home: Home, database_url: str) -> None:
    """A landing waits for the transaction of another writer of its pipeline, and for no one else's."""
    ledger, database = Ledger.open(ledger_home), Database.open(database_url)
    done = {pipeline: threading.Event() for pipeline in "pq"}

    def land(pipeline: str) -> None:
        ledger.record_landing(pipeline, arrival("jan"))
        done[pipeline].set()

    writers = {pipeline: threading.Thread(target=land, args=pipeline) for pipeline in "pq"}
    with database.writing("p"):
        writers["p"].start()
        writers["q"].start()
        assert done["q"].wait(30)
        assert not done["p"].wait(0.2)
    assert done["p"].wait(30)
    for writer in writers.values():
        writer.join()


def test_a_server_that_went_away_is_an_error_that_may_be_tried_again() -> None:
    """Nothing listens there."""
    with pytest.raises(LedgerError, match="cannot be used") as raised:
        Database.open(f"postgresql://ct:{PASSWORD}@127.0.0.1:1/ct")
    assert raised.value.retryable
    assert PASSWORD not in str(raised.value)
