"""Rows that were left out of a span, kept with the line they stood on and the reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct.home import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RAW_CHARACTERS_KEPT = 2000


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
        """For a message: `line 17, column "distance": "abc" is not a number`."""
        where = f"{self.unit} {self.line}"
        return f'{where}, column "{self.column}": {self.reason}' if self.column else f"{where}: {self.reason}"


def keep_bad_rows(rows: Sequence[BadRow], path: Path) -> Path:
    """Write one JSON object a row; an earlier file of the same span is replaced, or removed when no row is bad."""
    if not rows:
        path.unlink(missing_ok=True)
        return path
    lines = (
        json.dumps({row.unit: row.line, "column": row.column, "reason": row.reason, "raw": row.raw[:RAW_CHARACTERS_KEPT]})
        for row in rows
    )
    write_atomically(path, "".join(f"{line}\n" for line in lines))
    return path
