"""A span as a local file: what it is called, where it is, and the error that refuses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct.errors import SpanRefusedError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class SpanFile:
    """A span's bytes; a copy of a span that came from elsewhere is not called as the span is."""

    name: str
    path: Path

    def refused(self, reason: str) -> SpanRefusedError:
        """The error for a span that cannot be used. `reason` is the middle of a sentence, without a full stop."""
        return SpanRefusedError(
            f'Span "{self.name}" is refused: {reason}. Nothing was trained on it. '
            f"Land a corrected {self.name}; other spans are not affected.",
            span=self.name,
            path=str(self.path),
            reason=reason,
        )
