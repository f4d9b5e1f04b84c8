"""A CSV file in blocks that end where a record ends, so that each can be parsed alone and memory holds one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_BYTES = 1 << 23
"""Small enough that a few blocks in memory are nothing, large enough that what one costs beside its bytes is."""

QUOTE = ord('"')
LINE_ENDS = (b"\n", b"\r")


@dataclass(frozen=True)
class Block:
    """Bytes that begin where a record begins."""

    content: bytes
    quotes: NDArray[np.intp]
    """Where in `content` the quotes are; the first one opens a field."""
    is_whole: bool
    """True when it ends where a record ends, if it `is_regular`. Else it is the beginning of a record longer than a block, or
    a last line that was cut."""

    @property
    def lines(self) -> int:
        """Line ends in it; that of Windows is one."""
        ends = self.content.count(b"\r")
        return self.content.count(b"\n") + (ends - self.content.count(b"\r\n") if ends else 0)

    @property
    def is_regular(self) -> bool:
        """Whether each quote opens a field at its beginning, closes one at its end, or is doubled within one.

        Then records end where quotes are balanced, and no two readers of CSV disagree on what a field is.
        """
        if len(self.quotes) % 2:
            return False
        content = np.frombuffer(self.content, np.uint8)
        opening, closing = self.quotes[0::2], self.quotes[1::2]
        before = _BESIDE_QUOTES[content[opening - 1]] | (opening == 0)
        after = _BESIDE_QUOTES[content[np.minimum(closing + 1, len(content) - 1)]] | (closing == len(content) - 1)
        return bool(before.all() and after.all())


def read_block(file: BinaryIO, at: int) -> Block | None:
    """The block that begins at byte `at`, where a record begins; None at the end of the file.

    It ends at the last end of a line that is within no quotes; where there is none, it is all that was read.
    """
    file.seek(at)
    content = file.read(BLOCK_BYTES)
    if not content:
        return None
    quotes = np.flatnonzero(np.frombuffer(content, np.uint8) == QUOTE) if b'"' in content else _NONE
    is_last = len(content) < BLOCK_BYTES
    end = _last_record_end(content, quotes, is_last=is_last)
    if end == 0:
        return Block(content, quotes, is_whole=False)
    return Block(content[:end], quotes[: np.searchsorted(quotes, end)], is_whole=True)


def _last_record_end(content: bytes, quotes: NDArray[np.intp], *, is_last: bool) -> int:
    """The byte behind the last line end with an even number of quotes before it; 0 when there is none."""
    for line_end in LINE_ENDS:
        # What follows a carriage return that the block ends with may be its line feed.
        end = len(content) - (line_end == b"\r" and not is_last)
        while (found := content.rfind(line_end, 0, end)) >= 0:
            before = int(np.searchsorted(quotes, found))
            if before % 2 == 0:
                return found + 1
            end = int(quotes[before - 1])
    return 0


_NONE: NDArray[np.intp] = np.zeros(0, np.intp)
_BESIDE_QUOTES = np.zeros(256, np.bool_)
_BESIDE_QUOTES[list(b'",\n\r')] = True
