"""A Kafka broker and a Redis server for the tests. Downloads stay in the user's own Maven cache."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from server_process import NoServerError, free_port, got, listening
from source_servers import PASSWORD, SERVERS, Server

from ct.sources.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KAFKA = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""
CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw"


@contextmanager
def kafka_broker(folder: Path) -> Iterator[Server]:
    """A broker with nothing in it.

    Raises:
        NoServerError: Java or Maven is not here, or Maven cannot get the broker.
    """
    missing = [program for program in ("java", "mvn") if shutil.which(program) is None]
    if missing:
        raise NoServerError(f"{' and '.join(missing)} not installed")
    classpath = folder / "classpath"
    pom, output = str(SERVERS / "kafka" / "pom.xml"), f"-Dmdep.outputFile={classpath}"
    got(["mvn", "-q", "-B", "-f", pom, "dependency:build-classpath", output], "Maven cannot get the broker")
    port = free_port()
    properties = folder / "server.properties"
    properties.write_text(KAFKA.format(port=port, controller=free_port(), folder=folder), encoding="utf-8")
    java = ["java", "-Xmx384m", "-cp", classpath.read_text(encoding="utf-8")]
    got([*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)], "Kafka cannot format")
    extra = {"bootstrap.servers": f"127.0.0.1:{port}", "group.id": "tests"}
    server = Server(
        Connection("broker", "kafka", extra=extra),
        lambda: listening([*java, "kafka.Kafka", str(properties)], port, folder / "log"),
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def redis_server(folder: Path) -> Iterator[Server]:
    """A server that keeps nothing on disk and asks for a password.

    Raises:
        NoServerError: it is not installed.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise NoServerError("redis-server is not installed; on Debian: apt-get install redis-server")
    port = free_port()
    options = [
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--save",
        "",
        "--requirepass",
        PASSWORD,
        "--dir",
        str(folder),
    ]
    server = Server(
        Connection("cache", "redis", host="127.0.0.1", port=port, password=PASSWORD, extra={"db": 0}),
        lambda: listening([program, *options], port, folder / "log"),
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()
