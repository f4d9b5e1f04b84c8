"""Our routes at the door: uvicorn's HTTP protocol, which answers them without a task, a scope or a queue a request.

uvicorn parses, keeps connections alive, orders pipelined requests and shuts down gracefully, as for any request; only the step
that would start an ASGI application is ours where the path is. That doubles the requests a second (ADR 4). Every other path
goes on to BentoML's application.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.web.messages import Request, json_response

if TYPE_CHECKING:
    import asyncio

    from serving.web.front import Front
    from serving.web.messages import Response

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LINGER_S = 0.5
DROPPED_AT_MOST = 64 * 1024 * 1024
"""Bytes of a too large body that are read and forgotten before the connection is cut."""


class FrontProtocol(HttpToolsProtocol):
    """One connection. `install` makes the subclass that knows the front."""

    front: Front
    max_body_bytes: int
    body_timeout_s: float

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ours: RequestResponseCycle | None = None
        """The request of ours whose turn it is and whose body is not whole yet."""
        self._dropped_bytes = 0
        """Of a body past the limit: read on, so that the client is there to read the answer."""
        self._body_timer: asyncio.TimerHandle | None = None
        self._last_request = False
        """The server is stopping: the next answer closes the connection."""

    def data_received(self, data: bytes) -> None:
        """Parse; a body that does not become whole in time ends the connection."""
        super().data_received(data)
        if self._ours is None:
            if self._body_timer is not None:
                self._body_timer.cancel()
                self._body_timer = None
        elif self._body_timer is None:
            self._body_timer = self.loop.call_later(self.body_timeout_s, self._give_up, self._ours)

    def on_body(self, body: bytes) -> None:
        """Collect the body of a request of ours, as far as the limit."""
        cycle = self.cycle
        if not self.front.takes(cycle.scope["path"]):
            super().on_body(body)
        elif len(cycle.body) + len(body) <= self.max_body_bytes and not self._dropped_bytes:
            cycle.body += body
        else:
            self._dropped_bytes += len(body)
            if self._dropped_bytes > DROPPED_AT_MOST or cycle is not self._ours:
                self.transport.close()

    def on_message_complete(self) -> None:
        """The request is whole."""
        super().on_message_complete()
        cycle = self.cycle
        if self._ours is not cycle or cycle.response_complete:
            return
        self._ours = None
        if self._dropped_bytes:
            self._dropped_bytes = 0
            self._refuse(cycle)
        else:
            self._answer(cycle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """It is this request's turn on its connection."""
        if self._last_request:
            cycle.keep_alive = False
        if not self.front.takes(cycle.scope["path"]):
            super()._start_asgi_task(cycle, app)
        elif not cycle.more_body:
            self._answer(cycle)
        elif cycle.waiting_for_100_continue and _length(cycle) > self.max_body_bytes:
            self._refuse(cycle)
        else:
            self._ours = cycle
            if cycle.waiting_for_100_continue:
                self.transport.write(CONTINUE)

    def shutdown(self) -> None:
        """The server stops. An idle connection stays for a moment: its client may just be sending."""
        if self._is_idle():
            self._last_request = True
            self.loop.call_later(LINGER_S, self._close_idle)
        else:
            super().shutdown()

    def _close_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _answer(self, cycle: RequestResponseCycle) -> None:
        scope = cycle.scope
        client = f"{self.client[0]}:{self.client[1]}" if self.client else ""
        request = Request(
            scope["method"], scope["path"], scope["query_string"], list(scope["headers"]), bytes(cycle.body), client
        )
        self.front.handle(request, lambda response: self._respond(cycle, response))

    def _respond(self, cycle: RequestResponseCycle, response: Response) -> None:
        cycle.response_started = cycle.response_complete = True
        if cycle.disconnected or self.transport.is_closing():
            return
        head = [STATUS_LINES[response.status], b"content-type: ", response.content_type]
        for name, value in self.server_state.default_headers:
            head += (b"\r\n", name, b": ", value)
        for name, value in response.headers:
            head += (b"\r\n", name, b": ", value)
        if not cycle.keep_alive:
            head.append(b"\r\nconnection: close")
        head.append(b"\r\ncontent-length: %d\r\n\r\n" % len(response.body))
        if cycle.scope["method"] != "HEAD":
            head.append(response.body)
        self.transport.write(b"".join(head))
        if not cycle.keep_alive:
            self.transport.close()
        if self.flow.write_paused:
            # The client does not read: nothing more is taken from it until it does, so that answers do not pile up.
            self.loop.create_task(self._after_drain())
        else:
            self.on_response_complete()

    async def _after_drain(self) -> None:
        self.flow.pause_reading()
        await self.flow.drain()
        self.on_response_complete()

    def _refuse(self, cycle: RequestResponseCycle) -> None:
        cycle.keep_alive = False
        self._respond(cycle, json_response(413, {"error": f"the body is larger than {self.max_body_bytes} bytes"}))

    def _give_up(self, cycle: RequestResponseCycle) -> None:
        self._ours = self._body_timer = None
        if not cycle.response_complete:
            cycle.keep_alive = False
            error = f"the body was not whole after {self.body_timeout_s:g} s"
            self._respond(cycle, json_response(408, {"error": error}))


def _length(cycle: RequestResponseCycle) -> int:
    """What the client says that its body takes."""
    given = dict(cycle.scope["headers"]).get(b"content-length", b"")
    return int(given) if given.isdigit() else 0


def install(front: Front, *, max_body_bytes: int, body_timeout_s: float) -> None:
    """Let the uvicorn of this process speak to the front; called before its server is configured, as BentoML's worker does."""
    members = {"front": front, "max_body_bytes": max_body_bytes, "body_timeout_s": body_timeout_s}
    protocol = type("InstalledFrontProtocol", (FrontProtocol,), members)
    globals()[protocol.__name__] = protocol
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{protocol.__name__}"
