"""BentoML's application behind a guard: its own routes ask for the same tokens as ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serving.web.access import ANY, NONE, READ
from serving.web.messages import HttpError, json_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from serving.web.access import Access

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPES = {
    "/metrics": READ,
    "/schema.json": ANY,
    "/docs.json": READ,
    "/healthz": NONE,
    "/static_content/swagger-ui.css": NONE,
    "/static_content/swagger-ui-bundle.js": NONE,
}
"""BentoML's own paths. Any other is not found before it gets there: BentoML counts by path, without a bound."""


class Guarded:
    """Lets BentoML's own paths through, with their tokens. WebSockets are refused: nothing here uses them."""

    def __init__(self, access: Access, behind: App) -> None:
        self._access = access
        self._behind = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request as an ASGI application."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            try:
                self._check(scope["path"], scope["headers"])
            except HttpError as error:
                await _refuse(send, error)
                return
        await self._behind(scope, receive, send)

    def _check(self, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        if path not in SCOPES:
            raise HttpError(404, f"no such path: {path[:200]}")
        given = next((value for name, value in headers if name == b"authorization"), None)
        self._access.check(given, SCOPES[path])


async def _refuse(send: Send, error: HttpError) -> None:
    response = json_response(error.status, {"error": str(error)}, error.headers)
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", b"%d" % len(response.body)),
        *response.headers,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
