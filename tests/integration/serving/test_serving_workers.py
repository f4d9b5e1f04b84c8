"""Two serving workers: a flip reaches both, a killed one comes back on the same version, a stop loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

import pytest
from serving_process import ROW, Load, await_true, predict, roll_back, roll_out, serving, stage

from ct.home import Home
from ct.rollout import ModelStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving_process import Served

WORKERS = 2
THREADS = 6
SLOW, SLOW_LOOPS = 3, 20_000


@pytest.fixture
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two workers that serve version 2; versions 1 and 3, which takes 0.1 s, are warm."""
    home = Home(tmp_path_factory.mktemp("two") / "home").create()
    folder = tmp_path_factory.mktemp("two-models")
    store = ModelStore(home, "trips")
    for version in (3, 1, 2):
        stage(store, folder, version, version / 10, loops=SLOW_LOOPS if version == SLOW else 0)
        assert roll_out(store, version) == 0
    with serving(home, folder, serving_workers=WORKERS) as process:
        await_true(lambda: len(store.live_workers()) == WORKERS, 30, process)
        yield process


def test_a_flip_returns_when_both_workers_answer_with_the_version(two: Served) -> None:
    """Under load, on many connections; then a worker is killed, and at last all of it is stopped."""
    store = ModelStore(two.home, "trips")
    with Load(two, threads=THREADS) as load:
        for version in (1, 2) * 5:
            assert roll_back(store, to=version) == WORKERS
            for _ in range(THREADS):
                with two.client() as fresh:
                    assert predict(fresh).headers["ct-model-version"] == str(version)
    assert load.errors == []
    assert {status for status, _, _ in load.seen} == {200}

    _killing_a_worker_loses_its_requests_in_flight_only(two, store)
    _a_stop_answers_what_is_in_flight(two)


def _killing_a_worker_loses_its_requests_in_flight_only(two: Served, store: ModelStore) -> None:
    roll_back(store, to=1)
    with Load(two, threads=THREADS) as load:
        victim = store.live_workers()[0].pid
        os.kill(victim, signal.SIGKILL)

        def back() -> bool:
            workers = store.live_workers()
            alive = len(workers) == WORKERS and victim not in {worker.pid for worker in workers}
            return alive and all(worker.serving == 1 and SLOW in worker.loaded for worker in workers)

        await_true(back, 60, two)
    # A connection has one request in flight, and some connections were not the victim's.
    assert len(load.errors) <= THREADS
    assert {(status, version) for status, version, _ in load.seen} == {(200, "1")}


def _a_stop_answers_what_is_in_flight(two: Served) -> None:
    """Whatever is sent on a connection that a worker has is answered, until an answer says that it closes the connection."""
    store = ModelStore(two.home, "trips")
    await_true(lambda: all(SLOW in worker.loaded for worker in store.live_workers()), 60, two)
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", two.port), 20)) for _ in range(THREADS)
        ]
        readers = [stack.enter_context(connection.makefile("rb")) for connection in connections]
        for connection, reader in zip(connections, readers, strict=True):
            connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"200" in read_answer(reader)
        body = json.dumps({"instances": [ROW]}).encode()
        head = b"POST /v1/models/trips/versions/3:predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        for connection in connections:
            connection.sendall(head + body)
        two.process.send_signal(signal.SIGTERM)

        def last_answer(connection: socket.socket, reader: BinaryIO) -> bytes:
            while True:
                answer = read_answer(reader)
                assert b"200" in answer.splitlines()[0]
                if b"connection: close" in answer:
                    return answer + reader.read()
                connection.sendall(head + body)  # the stop has not reached the worker yet

        with ThreadPoolExecutor(THREADS) as pool:
            for answer in pool.map(last_answer, connections, readers):
                assert answer.endswith(b"}")
    assert two.process.wait(40) is not None


def read_answer(reader: BinaryIO) -> bytes:
    """The head and the body of an answer."""
    head = b"".join(iter(reader.readline, b"\r\n"))
    (length,) = (int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"content-length"))
    return head + reader.read(length)
