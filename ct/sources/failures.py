"""What is said when a source cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct.errors import SourceChangedError, SourceError

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


def changed(uri: str, what: str) -> SourceChangedError:
    """The error for a span that is not what was offered any more. `what`: a predicate, such as `is gone`."""
    return SourceChangedError(f"{uri} {what}. Nothing was recorded; the next look offers what is there then.", uri=uri)
