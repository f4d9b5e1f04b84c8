"""Rows that both versions have predicted, with their labels where these have come.

::

    monitor/<model>/pairs/<watch>/
      000001.parquet   request_id, row, new, previous: rows that the new version answered, and what the previous one says
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Floats = np.ndarray[Any, np.dtype[np.float64]]


def _none() -> Floats:
    return np.empty(0)


@dataclass(frozen=True)
class Compared:
    """Predictions of the same rows, float64, (rows,), and those rows again that have a label, in the order labels came."""

    new: Floats = field(default_factory=_none)
    previous: Floats | None = None
    """None when there is no previous version."""
    labels: Floats = field(default_factory=_none)
    """0 or 1, (labelled,)."""
    labelled_new: Floats = field(default_factory=_none)
    labelled_previous: Floats | None = None


def read_pairs(folder: Path) -> pa.Table:
    """All pairs of a watch; empty when there are none yet."""
    tables = [pq.ParquetFile(path).read() for path in sorted(folder.glob("[0-9]*.parquet"))]
    fields = [("request_id", pa.string()), ("row", pa.int32()), ("new", pa.float32()), ("previous", pa.float32())]
    return pa.concat_tables([pa.schema(fields).empty_table(), *tables])


def count_pairs(folder: Path) -> int:
    """How many pairs a watch has; only the ends of its files are read."""
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("[0-9]*.parquet"))


def join_labels(rows: pa.Table, labels: Mapping[tuple[str, int], tuple[int, int]]) -> Compared:
    """Rows with their labels.

    Args:
        rows: request_id, row, new, and `previous` where there is a previous version. Where a client used a request id again,
            its first row counts.
        labels: (request id, row) -> (place in the order in which labels came, label).
    """
    keys = list(zip(rows["request_id"].to_pylist(), rows["row"].to_pylist(), strict=True))
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    chosen = np.array(sorted(first.values()), np.int64)
    new = _column(rows, "new")
    previous = _column(rows, "previous") if "previous" in rows.column_names else None
    known = sorted((labels[key], place) for key, place in first.items() if key in labels)
    places = np.array([place for _, place in known], np.int64)
    return Compared(
        new=new[chosen],
        previous=None if previous is None else previous[chosen],
        labels=np.array([label for (_, label), _ in known], np.float64),
        labelled_new=new[places],
        labelled_previous=None if previous is None else previous[places],
    )


def request_ids(rows: pa.Table) -> Iterable[str]:
    """The ids of all rows, each once."""
    ids: list[str] = rows["request_id"].unique().to_pylist()
    return ids


def _column(rows: pa.Table, name: str) -> Floats:
    values: Floats = rows[name].to_numpy().astype(np.float64)
    return values
