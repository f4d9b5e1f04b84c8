"""A PostgreSQL of the tests' own, on a free loopback port; every test gets a database of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from ct.home import Home
from ct.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.register_assert_rewrite("tests.unit.triggers.test_triggers_ledger", "tests.unit.triggers.test_triggers_ends")
PASSWORD = "hidden-in-every-message"
START_S = 60.0
VERSIONS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The server's URL, without a database."""
    if not VERSIONS:
        pytest.skip("PostgreSQL is not installed: `apt-get install postgresql` brings it")
    user = None  # PostgreSQL refuses to run as root; Debian's package brings the user postgres
    if os.geteuid() == 0:
        if "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
            pytest.skip("root cannot run PostgreSQL, and there is no user postgres to run it")
        user = "postgres"
    binaries, port = VERSIONS[-1].parent, _free_port()
    with tempfile.TemporaryDirectory(
        prefix="ct-test-postgresql-"
    ) as name:  # pytest's folders are closed to other users
        folder = Path(name)
        data, password = folder / "data", folder / "password"
        password.write_text(PASSWORD)
        if user:
            for path in (folder, password):
                shutil.chown(path, user)
        options = ("--username=ct", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "--encoding=UTF8")
        initdb = [binaries / "initdb", f"--pgdata={data}", *options]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, user=user)
        settings = (f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
        command = [binaries / "postgres", "-D", data, *(part for setting in settings for part in ("-c", setting))]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, cwd=folder, user=user, stdout=log, stderr=log)
        try:
            _await_answer(f"postgresql://ct:{PASSWORD}@127.0.0.1:{port}/postgres", server, folder / "log")
            yield f"postgresql://ct:{PASSWORD}@127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGQUIT)  # ends at once, its children too
            server.wait(30)


def _await_answer(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)  # the server tells nobody when it is ready
        else:
            return


@pytest.fixture
def database_url(postgresql: str) -> str:
    """An empty database."""
    name = f"ct_{uuid.uuid4().hex}"
    with psycopg.connect(f"{postgresql}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return f"{postgresql}/{name}"


@pytest.fixture
def ledger_home(tmp_path: Path, database_url: str) -> Home:
    """A home whose ledger is empty, and in PostgreSQL."""
    home = Home(tmp_path).create()
    Settings(ledger_url=database_url).save(home)
    return home
