"""Rows that were left out of a span, kept with the line they stood on and the reason."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ct.home import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

RAW_CHARACTERS_KEPT = 2000
ROWS_KEPT_AT_LEAST = 1000
"""Of a span that is refused, so many bad rows are kept to look at; the rest are only counted, so memory stays bounded."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used."""

    line: int
    """The line of the file it begins on, counting from 1 with the header; of Parquet, the row counting from 1."""

    column: str | None
    reason: str
    raw: str
    unit: str = "line"

    @property
    def text(self) -> str:
        """For a message: `line 17, column "distance": 'far' is not a number`."""
        where = f"{self.unit} {self.line}"
        return f'{where}, column "{self.column}": {self.reason}' if self.column else f"{where}: {self.reason}"

    @property
    def json(self) -> str:
        """One line of the quarantine file."""
        raw = self.raw[:RAW_CHARACTERS_KEPT]
        return json.dumps({self.unit: self.line, "column": self.column, "reason": self.reason, "raw": raw})


@dataclass
class BadRows:
    """The bad rows of one reading, in the order of the file: all counted, the first `keep` kept."""

    keep: int
    count: int = 0
    kept: list[BadRow] = field(default_factory=list)

    @classmethod
    def allowing(cls, max_bad_rows: int) -> BadRows:
        """Keeps every row that may be left out, and some more to look at when the span is refused."""
        return cls(keep=max(max_bad_rows, ROWS_KEPT_AT_LEAST))

    def add(self, row: BadRow) -> None:
        """Count the row, and keep it while there is room."""
        self.count += 1
        if len(self.kept) < self.keep:
            self.kept.append(row)

    def write(self, path: Path) -> None:
        """Write the kept rows, one JSON object a line. An earlier file of the same span is replaced, or removed."""
        if self.kept:
            write_atomically(path, "".join(f"{row.json}\n" for row in self.kept))
        else:
            path.unlink(missing_ok=True)
