"""Our routes at the door: uvicorn's HTTP protocol, which answers them without a task, a scope or a queue a request.

uvicorn parses, keeps connections alive, orders pipelined requests and shuts down gracefully, as for any request; only the step
that would start an ASGI application is ours where the path is. That doubles the requests a second (ADR 4). Every other path
goes on to BentoML's application.
"""

from __future__ import annotations

import resource
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.web.messages import Request

if TYPE_CHECKING:
    import asyncio

    from serving.web.exchange import Exchange
    from serving.web.front import Front
    from serving.web.messages import Response

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MAX_HEAD_BYTES = 64 * 1024
LINGER_S = 0.5
"""How long a connection that is to end stays open for a client that is just sending: closed at once, it would be reset, and
the client might lose its answer."""
STOP_S = 20.0
"""After so long a stop ends what is not answered or not read; BentoML's supervisor kills its workers after 30 s."""
FILES_WANTED = 65_536
FILES_KEPT = 100
"""Files that a worker needs beside its connections: models, logs, metrics."""
UPGRADE = (b"connection", b"upgrade", b"http2-settings")


class FrontProtocol(HttpToolsProtocol):
    """One connection. `install` makes the subclass that knows the front."""

    front: Front
    max_body_bytes: int
    max_connections: int
    timeout_s: float
    """For a request to be whole, from its first byte; and for the first byte of a new connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._exchange: Exchange | None = None
        """The request of ours whose turn it is and whose body is not whole yet."""
        self._too_large: RequestResponseCycle | None = None
        """A pipelined request past the limit, to be refused when its turn comes."""
        self._turn: RequestResponseCycle | None = None
        """The request that is being answered, or was last."""
        self._head_bytes = 0
        self._head_is_whole = False
        self._message = 0
        """Counts the requests of this connection; `_timed` is the one that the timer is for."""
        self._whole = False
        self._timed = -1
        self._timer: asyncio.TimerHandle | None = None
        self._last_request = False
        """The server is stopping: the next answer closes the connection."""

    def connection_made(self, transport: Any) -> None:
        """A client is there; it must begin in time."""
        super().connection_made(transport)
        self.front.connections = self.connections
        if len(self.connections) > self.max_connections:
            self.transport.write(
                STATUS_LINES[503] + b"retry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()
        self._time()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone; a request that is not whole never will be."""
        if self._exchange is not None:
            self._exchange.abandon()
            self._exchange = None
        for cycle in (self.cycle, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None:
                cycle.body.clear()  # it would stay until the collector comes by, which counts objects and not bytes
        self._whole = True
        self._time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse. Upgrades are not taken up: the request is answered in HTTP/1.1, as RFC 9110 lets a server do."""
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._without_upgrade(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")
        self._time()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._message += 1
        self._whole = self._head_is_whole = False
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; too many of them end the connection. The trailers of a chunked body are none, and are passed over."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes <= MAX_HEAD_BYTES and not self._head_is_whole:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_is_whole = True
        if self._head_bytes > MAX_HEAD_BYTES:
            self.transport.write(STATUS_LINES[431] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()
        elif not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Collect the body of a request of ours, as far as the limit."""
        cycle = self.cycle
        if self._is_cut_off():
            return
        if not self.front.takes(cycle.scope["path"]):
            super().on_body(body)
        elif cycle.response_complete or cycle is self._too_large:
            return  # refused: what still comes is read, so that the client gets to its answer, and forgotten
        elif len(cycle.body) + len(body) <= self.max_body_bytes:
            cycle.body += body
            if self._exchange is not None:
                self._exchange.hold(len(body))
        elif self._exchange is not None:
            self._refuse(self._exchange)
        else:
            self._too_large = cycle
            cycle.body.clear()

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._is_cut_off():
            return
        self._whole = True
        super().on_message_complete()
        exchange, cycle = self._exchange, self.cycle
        if cycle.response_complete and not cycle.keep_alive:
            self.transport.close()
        elif exchange is not None:
            self._exchange = None
            exchange.receive(_take_body(cycle))

    def on_response_complete(self) -> None:
        """On to the next request of this connection, unless one is being answered already."""
        if self._turn is None or self._turn.response_complete:
            super().on_response_complete()

    def shutdown(self) -> None:
        """The server stops. An idle connection stays for a moment: its client may just be sending."""
        self.loop.call_later(STOP_S, self.transport.abort)
        if self._is_idle():
            self._last_request = True
            self.loop.call_later(LINGER_S, self._close_idle)
        else:
            super().shutdown()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """It is this request's turn on its connection."""
        self._turn = cycle
        self._unset_keepalive_if_required()
        if self._last_request:
            cycle.keep_alive = False
        scope = cycle.scope
        if not self.front.takes(scope["path"]):
            super()._start_asgi_task(cycle, app)
            return
        client = f"{self.client[0]}:{self.client[1]}" if self.client else ""
        headers: Any = scope["headers"]
        request = Request(scope["method"], scope["path"], scope["query_string"], headers, client)
        exchange = self.front.begin(request, partial(self._respond, cycle))
        if cycle.response_complete:
            return
        if cycle is self._too_large or request.length > self.max_body_bytes:
            self._too_large = None
            self._refuse(exchange)
        elif not cycle.more_body:
            exchange.receive(_take_body(cycle))
        else:
            self._exchange = exchange
            self._time()
            if cycle.waiting_for_100_continue:
                self.transport.write(CONTINUE)

    def _respond(self, cycle: RequestResponseCycle, response: Response) -> None:
        cycle.response_started = cycle.response_complete = True
        cycle.body.clear()
        if cycle.disconnected or self.transport.is_closing():
            return
        is_unread = cycle.more_body and _has_body(cycle)
        if is_unread:
            cycle.keep_alive = False
        head = [STATUS_LINES[response.status], b"content-type: ", response.content_type]
        for name, value in (*self.server_state.default_headers, *response.headers):
            head += (b"\r\n", name, b": ", value)
        if not cycle.keep_alive:
            head.append(b"\r\nconnection: close")
        head.append(b"\r\ncontent-length: %d\r\n\r\n" % len(response.body))
        if cycle.scope["method"] != "HEAD":
            head.append(response.body)
        self.transport.write(b"".join(head))
        if cycle.keep_alive:
            self._next(cycle)
        elif is_unread:
            self.loop.call_later(LINGER_S, self.transport.close)
        else:
            self.transport.close()

    def _next(self, cycle: RequestResponseCycle) -> None:
        if self.flow.write_paused:
            # The client does not read: nothing more is answered until it does, so that answers do not pile up.
            cycle.response_complete = False
            self.flow.pause_reading()
            self.loop.create_task(self._after_drain(cycle))
        elif self.pipeline:
            self.loop.call_soon(self.on_response_complete)  # not from here: a thousand pipelined requests would recurse
        else:
            self.on_response_complete()

    async def _after_drain(self, cycle: RequestResponseCycle) -> None:
        await self.flow.drain()
        cycle.response_complete = True
        self.on_response_complete()

    def _refuse(self, exchange: Exchange) -> None:
        self._exchange = None
        exchange.refuse(413, f"the body is larger than {self.max_body_bytes} bytes")

    def _without_upgrade(self, rest: bytes) -> None:
        """Parse the same request again without its offer to speak something else; llhttp leaves the body to us."""
        kept = b"".join(b"%s: %s\r\n" % (name, value) for name, value in self.headers if name not in UPGRADE)
        head = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.data_received(head + kept + b"\r\n" + rest)

    def _time(self) -> None:
        """One timer: for the request that is being received, or for the first byte of a new connection."""
        if self._whole:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None or self._timed != self._message:
            if self._timer is not None:
                self._timer.cancel()
            self._timed = self._message
            self._timer = self.loop.call_later(self.timeout_s, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.refuse(408, f"the body was not whole after {self.timeout_s:g} s")
        elif self._is_idle():
            self.transport.close()
        # Else an earlier request on this connection is being answered; uvicorn reads no further meanwhile.

    def _close_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_cut_off(self) -> bool:
        """No cycle stands for what the parser tells of: its head was too large, or offers an upgrade."""
        return self._head_bytes > MAX_HEAD_BYTES or bool(self.parser.should_upgrade())


def _take_body(cycle: RequestResponseCycle) -> bytes:
    body = bytes(cycle.body)
    cycle.body.clear()
    return body


def _has_body(cycle: RequestResponseCycle) -> bool:
    """Whether the head announces a body."""
    return any(
        (name == b"content-length" and value.strip() != b"0") or name == b"transfer-encoding"
        for name, value in cycle.scope["headers"]
    )


def _files() -> int:
    """How many files this process may have open, raised as far as FILES_WANTED: each idle connection takes one for minutes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FILES_WANTED:
        return FILES_WANTED
    files = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return files


def install(front: Front, *, max_body_bytes: int, timeout_s: float) -> None:
    """Let the uvicorn of this process speak to the front; called before its server is configured, as BentoML's worker does."""
    files = _files()
    members = {
        "front": front,
        "max_body_bytes": max_body_bytes,
        "max_connections": max(1, files - FILES_KEPT),
        "timeout_s": timeout_s,
    }
    protocol = type("InstalledFrontProtocol", (FrontProtocol,), members)
    globals()[protocol.__name__] = protocol
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{protocol.__name__}"
