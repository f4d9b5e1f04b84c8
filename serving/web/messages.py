"""A request and its answer as the routes see them: whole bodies, no streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from serving.plane.version import LoadedVersion
    from serving.rows import Layout, Rows

JSON = b"application/json"
VERSION_HEADER = b"ct-model-version"
Headers = list[tuple[bytes, bytes]]


class Request:
    """One request. Header names are lower-case; the body is there once it is whole."""

    __slots__ = ("body", "client", "headers", "method", "parsed", "path", "query", "token")

    def __init__(self, method: str, path: str, query: bytes, headers: Headers, client: str, body: bytes = b"") -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.client = client
        self.body = body
        self.parsed: dict[str, Any] | None = None
        """The body's JSON, where it had to be read to find out which model is asked."""
        self.token: str | None = None
        """The name of the token it came with, once that has been checked."""

    @property
    def length(self) -> int:
        """Bytes that the client says its body has; 0 when it does not say."""
        given = self.header(b"content-length")
        return int(given) if given is not None and given.isdigit() else 0

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


@dataclass(slots=True)
class Response:
    """The whole answer."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


class HttpError(Exception):
    """An answer other than 200; the message is for the client."""

    def __init__(self, status: int, message: str, *, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Encoded(NamedTuple):
    """An answer's body, and its content type and further headers."""

    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Decoded(NamedTuple):
    """A request's rows, and how its protocol answers."""

    rows: Rows
    encode: Callable[[np.ndarray[Any, Any], LoadedVersion], Encoded]


class Decode(Protocol):
    """How a protocol reads a request."""

    def __call__(self, request: Request, layout: Layout, max_rows: int) -> Decoded:
        """Read a body.

        Raises:
            BadRequestError: it is not of the protocol, or a value is not what the feature takes.
            TooLargeError: it has more rows than are allowed.
        """
        ...


def json_response(status: int, value: Any, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Response:
    """A JSON answer."""
    return Response(status, orjson.dumps(value), headers=headers)
