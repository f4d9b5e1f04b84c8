"""What is said when a source cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct.errors import SourceError

if TYPE_CHECKING:
    from ct.sources.connection import Connection

REASON_CHARACTERS = 500


def unreachable(uri: str, connection: Connection | None, reason: str) -> SourceError:
    """The error for a source that does not answer, or not as it should.

    Args:
        uri: without user and password.
        connection: what must not show of it is taken out of the reason.
        reason: a driver's or server's words, of any length.
    """
    line = " ".join(reason.split())[:REASON_CHARACTERS].rstrip(".")
    shown = connection.without_secrets(line) if connection else line
    check = f' Check the connection "{connection.id}".' if connection else ""
    return SourceError(
        f"Cannot read {uri}: {shown}. Nothing was recorded; the next look tries again.{check}", uri=uri, reason=shown
    )
