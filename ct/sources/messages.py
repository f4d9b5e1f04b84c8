"""Rows that travel in messages, as a file: what Kafka topics and Redis streams share.

A message is a JSON object, one row. It becomes a line of a CSV file, so that whatever is wrong with it is found, named and
quarantined by the same reader as any file's line (ct.sources.reader): message n of a span stands on line n + 1, unless a text
before it holds line ends. A message that is no JSON object becomes a line with too few fields.
"""

from __future__ import annotations

import csv
import json
import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SPOOL_BYTES = 8 << 20
"""Of memory; more goes to a temporary file."""


def write_messages(messages: Iterable[bytes], path: Path) -> None:
    """Write a line a message, below a header with every key that any of them has, in the order in which they came.

    Args:
        messages: UTF-8 JSON. Read once, and never all in memory.
        path: a CSV file (RFC 4180); a missing key and null are an empty field.
    """
    names: dict[str, None] = {}
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES, "w+", encoding="utf-8", errors="surrogateescape") as spool:
        for message in messages:
            text = message.decode("utf-8", "surrogateescape")
            row = _row(text)
            if row is not None:
                names |= dict.fromkeys(row)
            spool.write(json.dumps(text if row is None else row) + "\n")
        spool.seek(0)
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            for line in spool:
                row = json.loads(line)
                if isinstance(row, dict):
                    writer.writerow([_field(row.get(name)) for name in names])
                else:  # not a row; another number of fields than the header has makes the reader say so
                    writer.writerow([row] if len(names) > 1 else [row, ""])


def _row(text: str) -> dict[str, Any] | None:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(int(value))
    return json.dumps(value)
