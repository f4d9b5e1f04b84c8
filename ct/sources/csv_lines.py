"""The lines of a CSV file from any byte on, as text in which every byte that is not UTF-8 can still be seen."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ct.sources.span_file import SpanFile

LONGEST_LINE = 1 << 23
"""Characters. A file without line ends, such as a compressed one, is refused before it fills the memory."""

NUL_STAND_IN = "\ufdd0"
"""A code point that no text may hold; Python 3.10's csv module refuses NUL outright and would hide the line."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
OTHER_KINDS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "Parquet",
}
"""What is found under the name of a CSV, by its first bytes."""
LONGEST_MAGIC = max(len(magic) for magic in OTHER_KINDS)


class Lines:
    """Lines on their way to the csv module, which says neither where in the file it is nor how a line ended.

    Args:
        file: what is read; its position belongs to this object until `close`.
        span: named in a refusal.
        at: the byte to begin at.
        line: the number of the line there, counting from 1.
    """

    def __init__(self, file: BinaryIO, span: SpanFile, *, at: int = 0, line: int = 1) -> None:
        file.seek(at)
        self.at = at
        """The byte behind the lines that were taken."""
        self.line = line
        """The number of the next line."""
        self.last = ""
        self._span = span
        self._text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")

    def __iter__(self) -> Iterator[str]:
        while text := self._text.readline(LONGEST_LINE):
            self.last = text
            if len(text) == LONGEST_LINE and not self.is_ended:
                raise self._span.refused(f"line {self.line} has more than {LONGEST_LINE:,} characters")
            self.at += len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))
            self.line += 1
            yield text.replace("\0", NUL_STAND_IN)

    @property
    def is_ended(self) -> bool:
        """Whether the line that was taken last has its line end: all but a file's last line do."""
        return self.last.endswith(("\n", "\r"))

    def close(self) -> None:
        """Give the file back, open; where it stands is not said."""
        self._text.detach()


def records(lines: Lines, span: SpanFile, *, is_header: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it begins on.

    Raises:
        SpanRefusedError: a quote is opened and never closed, or stands where none may, so that rows cannot be told apart.
    """
    reader = csv.reader(iter(lines), strict=True)
    while True:
        line = lines.line
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            what = "its header cannot be read" if is_header else f"line {line}"
            rest = "" if is_header else "; the rows from there on cannot be told apart"
            raise span.refused(f"{what}: {_said(error)}{rest}") from error
        yield line, fields


def _said(error: csv.Error) -> str:
    if "field limit" in str(error):
        return f"a field of more than {csv.field_size_limit():,} characters, or a quote that is never closed"
    return "a quote is opened there and never closed" if "end of data" in str(error) else str(error)
