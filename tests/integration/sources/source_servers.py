"""A PostgreSQL, a Cassandra and an S3 server for the tests. Downloads stay in the user's own Maven and Go caches."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster, NoHostAvailable
from server_process import NoServerError, free_port, got, listening

from ct.sources.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVERS = Path(__file__).with_name("servers")
LOGIN, PASSWORD = "warehouse_reader", "s3cret/w@rd"
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
EXPORTS = (
    *("java.base/jdk.internal.misc", "java.base/java.lang.ref", "jdk.unsupported/sun.misc", "java.sql/java.sql"),
    *("java.management.rmi/com.sun.jmx.remote.internal.rmi", "java.rmi/sun.rmi.registry", "java.rmi/sun.rmi.server"),
)
OPENS = (
    *(
        "java.base/java.io",
        "java.base/java.lang",
        "java.base/java.lang.module",
        "java.base/java.lang.reflect",
        "java.base/java.util",
    ),
    *(
        "java.base/jdk.internal.loader",
        "java.base/jdk.internal.math",
        "java.base/jdk.internal.module",
        "java.base/jdk.internal.ref",
    ),
    *(
        "java.base/jdk.internal.reflect",
        "java.base/jdk.internal.util.jar",
        "java.base/sun.nio.ch",
        "java.base/java.nio",
    ),
    "jdk.management/com.sun.management.internal",
)
"""What Cassandra asks of Java 17's modules."""


@dataclass
class Server:
    """A server that can be stopped and started again, with its data."""

    connection: Connection
    """As Airflow would give it."""
    _run: Callable[[], AbstractContextManager[None]]
    _running: list[AbstractContextManager[None]] = field(default_factory=list)

    def start(self) -> None:
        """Returns when it listens."""
        running = self._run()
        running.__enter__()
        self._running.append(running)

    def stop(self) -> None:
        """Returns when it is gone; stopping a stopped one changes nothing."""
        if self._running:
            self._running.pop().__exit__(None, None, None)


@contextmanager
def postgres_server(folder: Path) -> Iterator[Server]:
    """An empty cluster with one user; its log is in the folder.

    Raises:
        NoServerError: PostgreSQL's server is not installed.
    """
    if not POSTGRES:
        raise NoServerError("PostgreSQL's server is not installed; on Debian: apt-get install postgresql")
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        if "postgres" not in {user.pw_name for user in pwd.getpwall()}:
            raise NoServerError("PostgreSQL does not run as root, and there is no user `postgres`")
        as_user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"]
    # Not in pytest's folder, into which each other pytest that starts lets no other user.
    with TemporaryDirectory(prefix="ct-postgres-", ignore_cleanup_errors=True) as own:
        data, secret, port = Path(own, "cluster"), Path(own, "password"), free_port()
        secret.write_text(PASSWORD)
        if as_user:
            shutil.chown(own, "postgres")
            shutil.chown(secret, "postgres")
        initdb = [*as_user, str(POSTGRES[-1].with_name("initdb")), "--pgdata", str(data), "--encoding", "UTF8"]
        options = f"--locale C --no-sync --username {LOGIN} --pwfile {secret} --auth scram-sha-256".split()
        got([*initdb, *options], "initdb", Path("/"))
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "shared_buffers=32MB"]
        command = [
            *as_user,
            str(POSTGRES[-1]),
            "-D",
            str(data),
            "-p",
            str(port),
            *(w for s in settings for w in ("-c", s)),
        ]
        connection = Connection("warehouse", "postgres", "127.0.0.1", port, LOGIN, PASSWORD, "postgres")
        yield from _served(
            Server(
                connection,
                lambda: listening(command, port, folder / "log", ready=lambda: _is_ready(port), end=signal.SIGINT),
            )
        )


@contextmanager
def cassandra_server(folder: Path) -> Iterator[Server]:
    """One node with Cassandra's own first user.

    Raises:
        NoServerError: Java or Maven is not here, or Maven cannot get Cassandra.
    """
    _need("java", "mvn")
    classpath, port = folder / "classpath", free_port()
    pom = str(SERVERS / "cassandra" / "pom.xml")
    output = f"-Dmdep.outputFile={classpath}"
    got(["mvn", "-q", "-B", "-f", pom, "dependency:build-classpath", output], "Maven cannot get Cassandra")
    jars = classpath.read_text().split(os.pathsep)
    ports = {"@storage_port@": str(free_port()), "@native_port@": str(port)}
    yaml = (SERVERS / "cassandra" / "cassandra.yaml").read_text()
    for name, value in ports.items():
        yaml = yaml.replace(name, value)
    (folder / "cassandra.yaml").write_text(yaml)
    settings = {
        "cassandra.config": (folder / "cassandra.yaml").as_uri(),
        "cassandra.storagedir": folder / "data",
        "cassandra-foreground": "yes",
        "cassandra.superuser_setup_delay_ms": 0,
        "cassandra.skip_wait_for_gossip_to_settle": 0,
        "cassandra.ring_delay_ms": 100,
        "logback.configurationFile": SERVERS / "cassandra" / "logback.xml",
    }
    agent = next(jar for jar in jars if "/jamm/" in jar)
    modules = [f"--add-exports={name}=ALL-UNNAMED" for name in EXPORTS] + [
        f"--add-opens={name}=ALL-UNNAMED" for name in OPENS
    ]
    defined = [f"-D{name}={value}" for name, value in settings.items()]
    java = ["java", "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", f"-javaagent:{agent}", *modules, *defined]
    command = [*java, "-cp", os.pathsep.join(jars), "org.apache.cassandra.service.CassandraDaemon"]
    connection = Connection("events", "cassandra", "127.0.0.1", port, "cassandra", "cassandra")
    yield from _served(
        Server(connection, lambda: listening(command, port, folder / "log", ready=lambda: _knows_its_user(connection)))
    )


@contextmanager
def object_store(folder: Path) -> Iterator[Server]:
    """An S3 server that checks signatures, with nothing in it. The first build takes some two minutes.

    Raises:
        NoServerError: Go is not here, or cannot get or build the server.
    """
    _need("go")
    program, port = folder / "versitygw", free_port()
    package = "github.com/versity/versitygw/cmd/versitygw"
    got(["go", "build", "-o", str(program), package], "Go cannot build the S3 server", SERVERS / "object_store")
    for name in ("objects", "metadata"):
        (folder / name).mkdir()
    options = ["--quiet", "--port", f"127.0.0.1:{port}", "posix", "--sidecar", str(folder / "metadata")]
    command = [str(program), *options, str(folder / "objects")]
    secrets = {"ROOT_ACCESS_KEY": LOGIN, "ROOT_SECRET_KEY": PASSWORD}
    extra = {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "us-east-1"}
    connection = Connection("lake", "aws", login=LOGIN, password=PASSWORD, extra=extra)
    yield from _served(Server(connection, lambda: listening(command, port, folder / "log", more=secrets)))


def _is_ready(port: int) -> bool:
    """PostgreSQL listens before it has recovered."""
    probe = [str(POSTGRES[-1].with_name("pg_isready")), "--quiet", "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.run(probe, check=False).returncode == 0


def _knows_its_user(connection: Connection) -> bool:
    """Cassandra listens before it has made its first user."""
    access = PlainTextAuthProvider(connection.login, connection.password)
    with Cluster(["127.0.0.1"], port=connection.port, auth_provider=access) as cluster:
        try:
            cluster.connect()
        except NoHostAvailable:
            return False
    return True


def _served(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise NoServerError(f"{' and '.join(missing)} not installed")
