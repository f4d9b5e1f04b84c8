"""What the client and the warm worker say to each other: JSON lines over a Unix stream socket, one job a connection.

::

    client                          server
      Run                 ->
                          <-        Queued            as long as every slot is taken
                          <-        Started
                          <-        Line ...          stdout and stderr of the job, in the order written
      Cancel (any time)   ->                          closing the connection means the same
                          <-        Ended             the last message; the server closes

      Ping                ->
                          <-        Pong

A message that the server cannot read, of another protocol version for example, is answered with Refused: nothing ran.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from ct.contracts import Value

PROTOCOL = 1
MAX_LINE_BYTES = 16_384
"""Longer output lines are cut into pieces, so that a binary blob on stdout cannot fill the memory of both ends."""
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Linux allows no process an environment and arguments past this."""


class ProtocolError(ValueError):
    """Bytes that are no message of this protocol version."""


class Message(Value):
    """The base of all messages."""

    protocol: int = PROTOCOL


class Run(Message):
    """Run the server's entry point once."""

    kind: Literal["run"] = "run"
    argv: tuple[str, ...]
    env: dict[str, str] = Field(description="Laid over the server's own environment.")
    cwd: str
    entry: str | None = Field(default=None, description="`module:function`; None for the server's own.")


class Cancel(Message):
    """End the job: SIGTERM to its process group, SIGKILL after the server's grace."""

    kind: Literal["cancel"] = "cancel"


class Ping(Message):
    """Ask whether the server is ready."""

    kind: Literal["ping"] = "ping"


class Queued(Message):
    """The job waits for a free slot."""

    kind: Literal["queued"] = "queued"
    ahead: int = Field(ge=0, description="Jobs that wait before this one.")


class Started(Message):
    """The job begins. Sent before its process exists: a client that has not heard it knows that nothing ran."""

    kind: Literal["started"] = "started"


class Line(Message):
    """One line of output, without its line end; bytes that are not UTF-8 are replaced."""

    kind: Literal["line"] = "line"
    text: str


class Ended(Message):
    """The job's process is gone. Exactly one of `exit_code` and `signal` is set."""

    kind: Literal["ended"] = "ended"
    exit_code: int | None
    signal: int | None
    seconds: float = Field(ge=0)
    peak_rss_mb: float = Field(ge=0)


class Pong(Message):
    """The server is ready."""

    kind: Literal["pong"] = "pong"
    pid: int
    running: int
    queued: int
    jobs_done: int = Field(description="Since this server last began; a recycled server begins at 0.")
    rss_mb: float


class Refused(Message):
    """Nothing was run."""

    kind: Literal["refused"] = "refused"
    reason: str


Request = Run | Cancel | Ping
Reply = Queued | Started | Line | Ended | Pong | Refused
AnyMessage = Request | Reply
_ADAPTER: TypeAdapter[AnyMessage] = TypeAdapter(Annotated[AnyMessage, Field(discriminator="kind")])


def encode(message: Message) -> bytes:
    """One message as one line; JSON escapes every line end inside."""
    return message.model_dump_json().encode("utf-8") + b"\n"


def decode(line: bytes) -> AnyMessage:
    """The message on one line.

    Raises:
        ProtocolError: it is no JSON object, of another protocol version, or of no known kind.
    """
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ProtocolError(f"not JSON: {error}") from error
    if not isinstance(found, dict) or found.get("protocol") != PROTOCOL:
        version = found.get("protocol") if isinstance(found, dict) else None
        raise ProtocolError(f"protocol {version}, this end speaks {PROTOCOL}")
    try:
        return _ADAPTER.validate_python(found)
    except ValidationError as error:
        raise ProtocolError(f"not a message of protocol {PROTOCOL}: {error.errors()[0]['msg']}") from error


class LineBuffer:
    """Cuts a stream of bytes into lines of at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their line ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) >= self._limit:
            lines.append(self._rest[: self._limit])
            self._rest = self._rest[self._limit :]
        return [piece for line in lines for piece in self._pieces(line)]

    def rest(self) -> list[bytes]:
        """What came after the last line end; the buffer is empty afterwards."""
        rest, self._rest = self._rest, b""
        return self._pieces(rest) if rest else []

    def _pieces(self, line: bytes) -> list[bytes]:
        return [line[start : start + self._limit] for start in range(0, len(line), self._limit)] or [b""]
