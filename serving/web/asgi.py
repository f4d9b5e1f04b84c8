"""The routes as an ASGI application in front of BentoML's, for whatever does not speak serving.web.uvicorn_protocol.

It also asks BentoML's own routes for the same tokens.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from serving.web.access import NONE, PREDICT, READ
from serving.web.messages import HttpError, Request, Response, json_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from serving.web.access import Access
    from serving.web.front import Front

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

BENTOML_SCOPES = {"/predict": PREDICT, "/healthz": NONE}
"""Of BentoML's own paths; any other needs the scope `read`, but for the files of the page `/docs`."""
STATIC = "/static_content/"


class AsgiFront:
    """Answers the front's paths; hands anything else to `behind`, once its token has been checked."""

    def __init__(self, front: Front, access: Access, behind: App, max_body_bytes: int) -> None:
        self._front = front
        self._access = access
        self._behind = behind
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request as an ASGI application."""
        if scope["type"] != "http":
            await self._behind(scope, receive, send)
            return
        headers, path = scope["headers"], scope["path"]
        try:
            if not self._front.takes(path):
                authorization = dict(headers).get(b"authorization")
                self._access.check(authorization, NONE if path.startswith(STATIC) else BENTOML_SCOPES.get(path, READ))
                await self._behind(scope, receive, send)
                return
            body = await self._read(receive)
        except HttpError as error:
            await _send(send, json_response(error.status, {"error": str(error)}, error.headers))
            return
        client = "{}:{}".format(*scope["client"]) if scope.get("client") else ""
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        request = Request(scope["method"], path, scope["query_string"], headers, body, client)
        self._front.handle(request, lambda response: None if answer.cancelled() else answer.set_result(response))
        await _send(send, await answer)

    async def _read(self, receive: Receive) -> bytes:
        """The whole body.

        Raises:
            HttpError: 413 past the limit.
        """
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HttpError(400, "the client went away before its request was whole")
            body += message.get("body", b"")
            if len(body) > self._max_body_bytes:
                raise HttpError(413, f"the body is larger than {self._max_body_bytes} bytes")
            if not message.get("more_body", False):
                return bytes(body)


async def _send(send: Send, response: Response) -> None:
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", b"%d" % len(response.body)),
        *response.headers,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
