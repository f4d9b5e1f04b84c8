"""What a pipeline asks of a span: its columns, and the check that a header has exactly these."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.sources.span_file import SpanFile

SHOWN_CHARACTERS = 60
OTHER_SEPARATORS = ";\t|"


class ColumnType(str, Enum):
    """The types that a TFX schema knows."""

    STRING = "string"
    INT = "int64"
    FLOAT = "float32"

    @property
    def arrow(self) -> pa.DataType:
        return {"string": pa.string(), "int64": pa.int64(), "float32": pa.float32()}[self.value]


@dataclass(frozen=True)
class Column:
    """A column that a span must have."""

    name: str
    type: ColumnType
    required: bool
    """True when every row must have a value."""
    minimum: float | None = None
    """The smallest value a row may have; None where the schema sets none. Numbers only."""
    maximum: float | None = None

    def out_of_range(self, value: float) -> str | None:
        """Why the value may not be there, or None. Of a float column, the value is one of 32 bits."""
        if self.minimum is not None and value < self.minimum:
            return f"is {self._text(value)}, below the schema's minimum of {self._text(self.minimum)}"
        if self.maximum is not None and value > self.maximum:
            return f"is {self._text(value)}, above the schema's maximum of {self._text(self.maximum)}"
        return None

    def _text(self, value: float) -> str:
        """The shortest text that reads as the value in the column's type: 0.1, not 0.10000000149."""
        return str(np.float32(value)).removesuffix(".0") if self.type is ColumnType.FLOAT else str(value)


def check_names(file: SpanFile, names: Sequence[str], columns: Sequence[Column]) -> None:
    """Refuse a header that does not hold exactly the agreed columns, each once, in any order.

    Raises:
        SpanRefusedError: a name is blank, repeated, missing or unknown.
    """
    agreed = [column.name for column in columns]
    if len(names) == 1 and len(agreed) > 1 and any(separator in names[0] for separator in OTHER_SEPARATORS):
        raise file.refused(f"its header is one field, {shown(names[0])}; fields are separated by commas")
    blank = [position for position, name in enumerate(names, start=1) if not name.strip()]
    if blank:
        raise file.refused(f"column {blank[0]} of its header has no name")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise file.refused(f"its header names {_quoted(twice)} more than once")
    missing = [name for name in agreed if name not in names]
    extra = [name for name in names if name not in agreed]
    if missing or extra:
        lacks = [f"lacks {_quoted(missing)}"] if missing else []
        holds = [f"has unknown {_quoted(extra)}{_nearest(extra, missing)}"] if extra else []
        raise file.refused(f"its header {' and '.join(lacks + holds)}; schema.pbtxt decides which columns a span has")


def shown(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """Text from a file as it may stand in a message: quoted, printable, and not longer than a line."""
    return repr(printable(text[:limit])) + ("..." if len(text) > limit else "")


def printable(text: str) -> str:
    """The text with everything that UTF-8 cannot hold written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{printable(name[:SHOWN_CHARACTERS])}"' for name in names)


def _nearest(extra: Sequence[str], missing: Sequence[str]) -> str:
    """A hint when an unknown name looks like a misspelling of a missing one."""
    pairs = [(name, difflib.get_close_matches(name, missing, n=1)) for name in extra]
    hints = [f'is "{printable(name)}" meant to be "{near[0]}"?' for name, near in pairs if near]
    return f" ({' '.join(hints)})" if hints else ""
