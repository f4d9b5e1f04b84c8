"""Opening the ledger: its tables are made, brought up to date, or refused."""

from __future__ import annotations

import importlib.util
import multiprocessing
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from ct.contracts import TriggerKind
from ct.errors import ConfigError
from ct.home import Home
from ct.settings import Settings
from ct.triggers import schema
from ct.triggers.claims import Ask
from ct.triggers.database import MIGRATIONS, VERSIONS, Database, LedgerError
from ct.triggers.ledger import Ledger, utc_now
from ct.triggers.records import EndKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIRST_TABLES = MIGRATIONS / "versions" / "first_tables.py"


def engine_of(home: Home) -> sa.Engine:
    """The database itself, past everything that keeps it in order."""
    url = Settings.load(home, {}).ledger_url or f"sqlite:///{home.ledger}"
    return sa.create_engine(sa.make_url(url.replace("postgresql://", "postgresql+psycopg://")), poolclass=sa.NullPool)


def an_old_ledger(home: Home) -> sa.Engine:
    """Tables as a ct made them that knew no migrations, with a span that was trained, its copy, and one that waits."""
    from alembic.operations import Operations  # noqa: PLC0415

    home.root.mkdir(parents=True, exist_ok=True)
    engine = engine_of(home)
    spec = importlib.util.spec_from_file_location("first_tables", FIRST_TABLES)
    assert spec is not None
    assert spec.loader is not None
    first = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(first)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        first.upgrade()
        for name, state, run_id in (("jan", "trained", "'p-1'"), ("feb", "waiting", "NULL")):
            connection.exec_driver_sql(
                f"INSERT INTO spans VALUES ('p', '{name}', 1, '{name}', '/in/{name}.csv', 'csv', 3, "  # noqa: S608
                f"'2013-01-01', '{state}', '', {run_id})"
            )
        for id_, name, outcome, message in (
            (1, "jan", "new", "revision 1"),
            (2, "feb", "new", "revision 1"),
            (3, "copy", "duplicate", "the same bytes as jan, revision 1"),
            (4, "half", "incomplete", "half.csv is not picked up"),
        ):
            whole = "'x', 3, 7" if outcome != "incomplete" else "NULL, NULL, NULL"
            connection.exec_driver_sql(
                f"INSERT INTO events VALUES ({id_}, 'p', '{name}', '{outcome}', '{message}', '2013-01-01', "  # noqa: S608
                f"'/in/{name}.csv', {whole})"
            )
        connection.exec_driver_sql(
            "INSERT INTO runs VALUES ('p-1', 'p', 'data', 'approved', '[[\"jan\", 1]]', '[[\"jan\", 1]]', "
            "'2013-01-01', '2013-01-01', '2013-01-02', 'better', 1, 'p', 'r1', NULL)"
        )
    return engine


def revision_of(engine: sa.Engine) -> str:
    """Which migration the tables are of."""
    with engine.connect() as connection:
        return str(connection.execute(sa.select(VERSIONS.c.version_num)).scalar_one())


def test_migrations_end_where_new_tables_begin(ledger_home: Home) -> None:
    """A ledger that was upgraded and one that is new have the same tables, columns and indexes."""
    from ct.config import TriggerConfig  # noqa: PLC0415

    engine = an_old_ledger(ledger_home)
    ledger = Ledger.open(ledger_home)
    assert revision_of(engine) == schema.REVISION
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    ends = {end.event.name: end.end for end in ledger.ends("p", TriggerConfig())}
    assert ends == {
        "jan": EndKind.CONSUMED,
        "feb": EndKind.WAITING,
        "copy": EndKind.DUPLICATE,
        "half": EndKind.INCOMPLETE,
    }


def test_an_upgraded_ledger_goes_on_as_before(ledger_home: Home) -> None:
    """Known files are known by what their fingerprint is now, and what waited is claimed."""
    an_old_ledger(ledger_home)
    ledger = Ledger.open(ledger_home)
    seen = [("/in/jan.csv", "3 bytes, 7 ns"), ("/in/copy.csv", "3 bytes, 7 ns"), ("/in/half.csv", "3 bytes, 7 ns")]
    assert ledger.known("p", seen) == set(seen[:2])
    got = ledger.claim(Ask("p", "p-2", TriggerKind.DATA, "p", "r2", utc_now(), None))
    assert got is not None
    assert (got.new_spans, [span.name for span in got.window]) == (("feb",), ["feb", "jan"])


def _all_at_once(processes: int, work: Callable[[], object]) -> list[object]:
    """What `work` gave in each of so many processes, which begin together; its error, where it gave none."""
    context = multiprocessing.get_context("fork")
    together, answers = context.Barrier(processes, timeout=60), context.Queue()

    def child() -> None:
        try:
            together.wait()
            answers.put(work())
        except Exception as error:  # noqa: BLE001  the test says what it was
            answers.put(repr(error))

    children = [context.Process(target=child) for _ in range(processes)]
    for each in children:
        each.start()
    given = [answers.get(timeout=60) for _ in children]
    for each in children:
        each.join()
    return given


def test_many_processes_may_upgrade_at_once(ledger_home: Home) -> None:
    """One does, the others wait for it; each finds the ledger whole."""
    engine = an_old_ledger(ledger_home)

    def spans() -> list[str]:
        return [record.span.name for record in Ledger.open(ledger_home).spans("p")]

    assert _all_at_once(4, spans) == [["feb", "jan"]] * 4
    assert revision_of(engine) == schema.REVISION


def test_many_processes_may_switch_a_files_journal(tmp_path: Path) -> None:
    """One of them does, and none is told that the file is locked. It takes many files to see that, and not each time."""
    files = [tmp_path / f"{number}.db" for number in range(200)]
    for file in files:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE of_another_program (id)")
    together = multiprocessing.get_context("fork").Barrier(4, timeout=60)

    def errors() -> list[str]:
        found = []
        for file in files:
            together.wait()
            try:
                Database.open(f"sqlite:///{file}")
            except LedgerError as error:
                found.append(str(error))
        return found

    assert _all_at_once(4, errors) == [[]] * 4


def test_a_journal_that_cannot_be_switched_is_an_error_of_the_ledger(tmp_path: Path) -> None:
    """Which the caller knows, with what to look at."""
    (tmp_path / "ledger.db.lock").mkdir()
    with pytest.raises(LedgerError, match=r"ledger\.db cannot be used: .*ledger\.db\.lock: Is a directory"):
        Database.open(f"sqlite:///{tmp_path / 'ledger.db'}")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_ledger_in_memory_is_refused(url: str) -> None:
    """Each connection would begin an empty one."""
    with pytest.raises(ConfigError, match="names no file"):
        Database.open(url)


def test_an_upgrade_that_is_cut_short_changes_nothing(ledger_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or nothing: the next process begins where the first did."""
    engine = an_old_ledger(ledger_home)

    def killed(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr("alembic.command.upgrade", killed)
    with pytest.raises(SystemExit):
        Ledger.open(ledger_home)
    assert not sa.inspect(engine).has_table(VERSIONS.name)
    monkeypatch.undo()
    assert len(Ledger.open(ledger_home).spans("p")) == 2


def test_a_ledger_of_a_newer_ct_is_refused(ledger_home: Home) -> None:
    """Rather than written to by a ct that does not know its columns."""
    Ledger.open(ledger_home)
    engine = engine_of(ledger_home)
    with engine.begin() as connection:
        connection.execute(sa.update(VERSIONS).values(version_num="9999"))
    with pytest.raises(LedgerError, match="a newer ct has changed them"):
        Ledger.open(ledger_home)
    assert revision_of(engine) == "9999"


def test_a_ledger_that_is_up_to_date_is_opened_without_alembic(ledger_home: Home) -> None:
    """Every task and every command opens it."""
    code = (
        "import sys; from ct.home import Home; from ct.triggers.ledger import Ledger; "
        "Ledger.open(Home.from_environment()); print('alembic' in sys.modules)"
    )
    environment = {"CT_HOME": str(ledger_home.root), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("url", ["mysql://ct:hidden@localhost/ct", "ct:hidden", "mongodb://hidden@x/y"])
def test_an_address_that_is_no_ledger_is_refused_without_its_password(url: str) -> None:
    """A person reads the message, and so does a log."""
    with pytest.raises(ConfigError) as raised:
        Database.open(url)
    assert "hidden" not in str(raised.value)
    assert "ledger_url" in str(raised.value)


def test_the_ledgers_address_is_kept_where_only_its_owner_reads(tmp_path: Path) -> None:
    """Later commands and processes use it; settings.yaml and messages about other settings do not show it."""
    home = Home(tmp_path).create()
    Settings(ledger_url="postgresql://ct:hidden@db/ct").save(home)
    assert "hidden" not in (home.root / "settings.yaml").read_text()
    assert (home.secrets / "ledger_url").stat().st_mode & 0o077 == 0
    assert Settings.load(home, {}).ledger_url == "postgresql://ct:hidden@db/ct"
    with pytest.raises(ConfigError) as raised:
        Settings.load(home, {"CT_SERVING_TLS_KEY": "/key.pem"})
    assert "hidden" not in str(raised.value)
    Settings().save(home)
    assert Settings.load(home, {}).ledger_url is None
