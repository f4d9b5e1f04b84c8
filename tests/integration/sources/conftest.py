"""The servers of these tests, one each for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from message_servers import kafka_broker
from message_servers import redis_server as redis_process
from server_process import NoServerError
from source_servers import Server, cassandra_server, object_store, postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A PostgreSQL."""
    yield from _server(postgres_server, tmp_path_factory.mktemp("postgres"))


@pytest.fixture(scope="session")
def cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Cassandra."""
    yield from _server(cassandra_server, tmp_path_factory.mktemp("cassandra"))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An S3 server."""
    yield from _server(object_store, tmp_path_factory.mktemp("s3"))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Kafka broker."""
    yield from _server(kafka_broker, tmp_path_factory.mktemp("kafka"))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Redis."""
    yield from _server(redis_process, tmp_path_factory.mktemp("redis"))


def _server(open_server: Callable[[Path], AbstractContextManager[Server]], folder: Path) -> Iterator[Server]:
    try:
        with open_server(folder) as server:
            yield server
    except NoServerError as error:
        pytest.skip(str(error))
