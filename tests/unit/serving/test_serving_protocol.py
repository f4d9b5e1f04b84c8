"""Connections as they come: pipelined, slow, too large, half, with offers to upgrade. Each request is answered once."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ROW, PythonVersion

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from conftest import Web

    from serving.rows import Rows

    Serve = Callable[..., Any]

BODY = json.dumps({"instances": [ROW]}).encode()
PREDICT = b"/v1/models/trips:predict"


def post(body: bytes = BODY, *, path: bytes = PREDICT, more: bytes = b"", length: int | None = None) -> bytes:
    """A request's bytes."""
    size = len(body) if length is None else length
    return b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n%s\r\n" % (path, size, more) + body


def get(path: bytes, more: bytes = b"") -> bytes:
    """A request's bytes."""
    return b"GET %s HTTP/1.1\r\nhost: x\r\n%s\r\n" % (path, more)


def statuses(got: bytes) -> list[int]:
    """The answers' statuses, in order."""
    return [int(part[:3]) for part in got.split(b"HTTP/1.1 ")[1:]]


def run(serve: Serve, story: Callable[[Web], Awaitable[None]], version: Any = None, **settings: Any) -> None:
    """Run a story, and see that no request is still counted as being answered."""

    async def main() -> None:
        async with serve(version, **settings) as web:
            await story(web)
            async with asyncio.timeout(5):
                while web.front.in_flight:  # noqa: ASYNC110  the front has no event for it, and needs none
                    await asyncio.sleep(0.01)
            assert web.front.in_flight == 0

    asyncio.run(main())


def test_thousands_of_pipelined_requests_are_each_answered_once_in_order(serve: Serve) -> None:
    """However deep the pipeline, nothing recurses."""

    async def story(web: Web) -> None:
        got = await web.talk(post() + get(b"/livez") * 3000, until=3001)
        assert statuses(got) == [200] * 3001
        assert got.index(b"predictions") < got.index(b"alive")

    run(serve, story)


def test_an_offer_to_upgrade_is_passed_over_and_the_request_answered(serve: Serve) -> None:
    """A JDK's HttpClient offers h2c with each first request; its body must not get lost, in pieces or whole."""
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAA\r\n"

    async def story(web: Web) -> None:
        got = await web.talk(post(more=offer) + post(), until=2)
        assert statuses(got) == [200, 200]
        websocket = (
            b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\nsec-websocket-version: 13\r\n"
        )
        assert statuses(await web.talk(get(b"/metrics", websocket), until=1)) == [200]
        assert web.reached_bentoml == ["/metrics"]
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        sent = post(more=offer)
        for start in range(0, len(sent), 40):
            writer.write(sent[start : start + 40])
            await writer.drain()
            await asyncio.sleep(0)
        assert b" 200 " in await reader.readline()
        writer.close()

    run(serve, story)


def test_a_request_that_its_head_refuses_takes_no_body(serve: Serve) -> None:
    """No token, no route, too long by its own word: the answer comes before the body does."""

    async def story(web: Web) -> None:
        for sent, status in ((post(length=1000), 401), (post(path=b"/v1/nothing", length=1000), 404)):
            assert statuses(await web.talk(sent, until=1)) == [status]
        # Without a body the connection stays.
        assert statuses(await web.talk(get(b"/v1/nothing") * 2 + get(b"/livez"), until=3)) == [404, 404, 200]

    run(serve, story, serving_access="tokens")

    async def too_long(web: Web) -> None:
        got = await web.talk(post(b"", length=2_000_000), until=1)
        assert statuses(got) == [413]
        assert b"connection: close" in got

    run(serve, too_long, serving_max_body_mb=1)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_too_large_body_is_answered_and_not_kept(serve: Serve, *, chunked: bool) -> None:
    """At the limit, while it still comes; a request that waits before it on the connection is answered."""
    body = b"x" * 3_000_000
    head = b"POST %s HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n" % (PREDICT, len(body))
    sent = head + body + b"\r\n0\r\n\r\n" if chunked else post(body)

    async def story(web: Web) -> None:
        assert statuses(await web.talk(sent, until=1)) == [413]
        assert statuses(await web.talk(post() + sent, until=2)) == [200, 413]

    run(serve, story, serving_max_body_mb=1)


def test_a_body_that_stays_half_gets_408_also_behind_another_request(serve: Serve) -> None:
    """And one that becomes whole in time is answered, whatever the request before it took."""

    async def story(web: Web) -> None:
        half = post()[:-5]
        assert statuses(await web.talk(half, until=1)) == [408]
        assert statuses(await web.talk(post() + half, until=2)) == [200, 408]
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        for _ in range(3):
            writer.write(half)
            await asyncio.sleep(0.6)
            writer.write(post()[-5:])
            assert b" 200 " in await reader.readline()
            await reader.readuntil(b"]}")
        writer.close()

    run(serve, story, serving_timeout_s=1)


def test_a_head_that_stays_half_or_grows_without_end_is_cut_off(serve: Serve) -> None:
    """As is a connection on which nothing comes; 64 KiB of headers are enough."""

    async def story(web: Web) -> None:
        for sent in (b"", b"POST /v1/mod", get(b"/livez", b"x: y\r\n")[:-2]):
            assert await web.talk(sent, wait_s=3) == b""
        large = get(b"/livez", b"".join(b"x-%d: %s\r\n" % (number, b"y" * 1000) for number in range(100)))
        assert statuses(await web.talk(large, wait_s=3)) == [431]
        assert statuses(await web.talk(get(b"/livez?" + b"x" * 70_000), wait_s=3)) == [431]
        assert not web.connections

    run(serve, story, serving_timeout_s=0.3)


def test_a_client_that_leaves_takes_nothing_with_it(serve: Serve) -> None:
    """Its body half, or its answer unread: the slot that it had is free again."""

    async def story(web: Web) -> None:
        for sent in (post()[:-5], post()):
            _, writer = await asyncio.open_connection("127.0.0.1", web.port)
            writer.write(sent)
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()

    run(serve, story)


def test_a_client_that_does_not_read_is_not_read_from(serve: Serve) -> None:
    """Its answers would pile up in memory else."""

    async def story(web: Web) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port, limit=1024)
        many = post(json.dumps({"instances": [ROW] * 5000}).encode())
        writer.transport.set_write_buffer_limits(1 << 30)
        for _ in range(200):
            writer.write(many)
        await asyncio.sleep(1)
        (connection,) = web.connections
        assert connection.transport.get_write_buffer_size() < 1_000_000
        writer.transport.abort()
        del reader

    run(serve, story)


def test_the_concurrency_limit_counts_bodies_that_are_coming(serve: Serve) -> None:
    """Their room is taken before they are whole; health is asked all the same."""

    async def story(web: Web) -> None:
        held = [await asyncio.open_connection("127.0.0.1", web.port) for _ in range(3)]
        for _, writer in held:
            writer.write(post()[:-5])
        while web.front.in_flight < 3:  # noqa: ASYNC110  as in `run`
            await asyncio.sleep(0.01)
        got = await web.talk(post(), until=1)
        assert statuses(got) == [429]
        assert b"retry-after: 1" in got
        assert statuses(await web.talk(get(b"/livez"), until=1)) == [200]
        for _, writer in held:
            writer.close()

    run(serve, story, serving_max_concurrent=3)


def test_a_large_body_is_answered_in_time_also_when_the_readers_are_busy(serve: Serve) -> None:
    """Its time counts from its arrival, and what comes later is answered by nobody twice."""
    may_go = threading.Event()

    class Hanging(PythonVersion):
        def predict(self, rows: Rows) -> Any:
            may_go.wait(10)
            return super().predict(rows)

    large = post(json.dumps({"instances": [ROW] * 2000}).encode())

    async def story(web: Web) -> None:
        try:
            got = await asyncio.gather(*(web.talk(large, until=1, wait_s=8) for _ in range(6)))
            assert [statuses(each) for each in got] == [[503]] * 6
        finally:
            may_go.set()

    run(serve, story, Hanging(inline_rows=0), serving_timeout_s=0.5)


def test_a_head_request_gets_the_head_only(serve: Serve) -> None:
    """Of what a GET would get."""

    async def story(web: Web) -> None:
        got = await web.talk(b"HEAD /livez HTTP/1.1\r\nhost: x\r\n\r\n" + get(b"/livez"), until=2)
        assert statuses(got) == [200, 200]
        assert got.count(b"alive") == 1

    run(serve, story)


def test_bentomls_route_has_the_same_limits_as_ours(serve: Serve) -> None:
    """Rows, bodies, concurrency, tokens: it is answered here, and BentoML's application is not reached."""

    async def story(web: Web) -> None:
        for payload, status in (
            ({"model": "trips", "instances": [ROW]}, 200),
            ({"model": "trips", "instances": [ROW] * 11}, 413),
            ({"model": "other", "instances": [ROW]}, 404),
            ({"model": 1, "instances": [ROW]}, 400),
            ({"instances": [ROW]}, 400),
            ({"model": "trips"}, 400),
        ):
            assert statuses(await web.talk(post(json.dumps(payload).encode(), path=b"/predict"), until=1)) == [status]
        assert statuses(await web.talk(post(b"a=b", path=b"/predict"), until=1)) == [400]
        assert web.reached_bentoml == []

    run(serve, story, serving_max_rows=10)


def test_a_body_cannot_smuggle_a_request_behind_an_upgrade(serve: Serve) -> None:
    """What comes after such a head is its body, in the same segment or the next."""
    inner = get(b"/livez")

    async def story(web: Web) -> None:
        for more in (b"connection: upgrade\r\nupgrade: foo\r\n", b"connection: Upgrade\r\nupgrade: h2c\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
            writer.write(post(b"", more=more, length=len(inner)))
            await asyncio.sleep(0.1)
            writer.write(inner)
            writer.write_eof()
            assert statuses(await reader.read()) == [400]
            writer.close()

    run(serve, story)


def test_a_trailer_is_no_header(serve: Serve) -> None:
    """A token or an id after the body counts for nothing."""
    head = b"POST %s HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" % PREDICT
    sent = head + b"%x\r\n%b\r\n0\r\nx-request-id: trailing\r\ncontent-encoding: gzip\r\n\r\n" % (len(BODY), BODY)

    async def story(web: Web) -> None:
        got = await web.talk(sent, until=1)
        assert statuses(got) == [200]
        assert b"trailing" not in got

    run(serve, story)


def test_answers_stay_in_order_when_the_client_reads_late(serve: Serve) -> None:
    """Hundreds of large answers, then predictions of BentoML's and our routes: each gets its own."""

    async def story(web: Web) -> None:
        sent = get(b"/openapi.json") * 300 + post() + get(b"/healthz") + post() + get(b"/livez")
        got = await web.talk(sent, until=304, late_s=0.5, wait_s=20)
        assert statuses(got) == [200] * 304
        answers = [part.partition(b"\r\n\r\n")[2] for part in got.split(b"HTTP/1.1 ")[301:]]
        assert answers == [b'{"predictions":[0.2]}', b"{}", b'{"predictions":[0.2]}', answers[3]]
        assert b"alive" in answers[3]

    run(serve, story)


def test_a_request_behind_another_is_not_cut_off_by_the_keep_alive_timer(serve: Serve) -> None:
    """The timer of the first one's end must not run into the second one's prediction."""

    class Slow(PythonVersion):
        def predict(self, rows: Rows) -> Any:
            threading.Event().wait(1.5)
            return super().predict(rows)

    async def story(web: Web) -> None:
        got = await web.talk(get(b"/livez") + post(), until=2, wait_s=8)
        assert statuses(got) == [200, 200]

    run(serve, story, Slow(inline_rows=0), keep_alive_s=1)


def test_more_connections_than_there_are_files_for_are_told_to_come_again(serve: Serve) -> None:
    """Those that are there are answered."""

    async def story(web: Web) -> None:
        held = [await asyncio.open_connection("127.0.0.1", web.port) for _ in range(3)]
        assert statuses(await web.talk(get(b"/livez"), until=1)) == [503]
        reader, writer = held[0]
        writer.write(get(b"/livez"))
        assert b" 200 " in await reader.readline()
        for _, each in held:
            each.close()

    run(serve, story, max_connections=3)


@pytest.mark.parametrize("path", [b"/anything", b"/metrics/", b"//metrics", b"/Metrics", b"/static_content/../metrics"])
def test_only_bentomls_own_paths_reach_it(serve: Serve, path: bytes) -> None:
    """It counts and logs by path, and would do so without a bound."""

    async def story(web: Web) -> None:
        assert statuses(await web.talk(get(path), until=1)) == [404]
        assert web.reached_bentoml == []

    run(serve, story)


def test_an_answer_is_sent_once_also_when_it_cannot_be_counted(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk under the metrics is no reason for a second answer."""

    async def story(web: Web) -> None:
        def full(*_: Any) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr(web.front.metrics, "answered", full)
        got = await web.talk(post() + post(), until=2)
        assert statuses(got) == [200, 200]

    run(serve, story)
