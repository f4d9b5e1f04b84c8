"""The files of the prediction log: answered requests as columns, and files that grow by being replaced whole."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ct.errors import CTError
from serving.logs.background import remove_oldest
from serving.rows import join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ct.home import Home
    from serving.rows import Layout, Rows

FILE_ROWS = 10_000
FILE_S = 300.0
CHUNK_ROWS = 256
"""Turned into columns in half a millisecond."""
OURS = pa.schema(
    [
        ("ct_request_id", pa.string()),
        ("ct_row", pa.int32()),
        ("ct_trace_id", pa.string()),
        ("ct_at", pa.timestamp("us", tz="UTC")),
        ("ct_version", pa.int32()),
        ("ct_variant", pa.dictionary(pa.int32(), pa.string())),
        ("ct_prediction", pa.float32()),
    ]
)
TYPES = {"string": pa.string(), "float32": pa.float32(), "int64": pa.int64()}


class ReservedNameError(CTError):
    """A feature is named like a column of the prediction log; its model's rows cannot be kept."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request, as one version answered it."""

    model: str
    version: int
    variant: str
    """`champion`, `canary`, `pinned` where the request named the version, or `shadow`, which no client sees."""
    request_id: str
    trace_id: str | None
    at: float
    """When it arrived, Unix seconds."""
    rows: Rows
    predictions: list[float]
    """One a row."""


Chunk = list[Answered]


@dataclass
class _OpenFile:
    """A file that may grow: its path, what is in it, and when it began."""

    path: Path
    began: float
    tables: list[pa.Table] = field(default_factory=list)
    rows: int = 0


class PredictionFiles:
    """Writes answered requests into the files of each model; used by one thread."""

    def __init__(self, home: Home, budget_bytes: float, clock: Callable[[], float]) -> None:
        self._home = home
        self._budget_bytes = budget_bytes
        self._clock = clock
        self._open: dict[tuple[str, Layout], _OpenFile] = {}
        self._number = 0
        self._unchecked: dict[str, int] = {}

    def write(self, part: list[Answered], paced: Callable[[Iterator[Chunk]], Iterator[Chunk]] = iter) -> None:
        """Write requests of one model and layout.

        Args:
            part: at least one.
            paced: passes the chunks on that the part is turned into columns by, and may rest between them.

        Raises:
            OSError: the disk is full or unwritable; none of these rows are in a file then.
            ReservedNameError: a feature has the name of a column of the log.
        """
        self._keep_budget(part[0].model)
        now = self._clock()
        self._open = {
            key: file for key, file in self._open.items() if file.rows < FILE_ROWS and now - file.began < FILE_S
        }
        key = part[0].model, part[0].rows.layout
        file = self._open.get(key) or self._begin(part[0].model, now)
        table = pa.concat_tables([_columns(chunk) for chunk in paced(_chunks(part))])
        self._unchecked[part[0].model] += _replace(file.path, pa.concat_tables([*file.tables, table]))
        file.tables.append(table)
        file.rows += table.num_rows
        self._open[key] = file

    def _begin(self, model: str, now: float) -> _OpenFile:
        self._number += 1
        began = datetime.fromtimestamp(now, timezone.utc)
        name = f"{began:%Y-%m-%d/%H%M%S}Z-{os.getpid()}-{self._number}.parquet"
        return _OpenFile(self._home.predictions(model) / name, now)

    def _keep_budget(self, model: str) -> None:
        """Looks at the folder only now and then: at first, and when a fiftieth of the budget has been written."""
        folder = self._home.predictions(model)
        if self._unchecked.get(model, self._budget_bytes) >= self._budget_bytes / 50:
            remove_oldest(folder.glob("*/*"), self._budget_bytes)
            for day in sorted(folder.glob("*"))[:-1]:
                with suppress(OSError):  # it still has files, or another worker was faster
                    day.rmdir()
            self._unchecked[model] = 0


def by_layout(items: list[Answered]) -> list[list[Answered]]:
    """Requests of one model and one layout each. Layouts that are equal and not the same still end up in one file."""
    parts: dict[tuple[str, int], list[Answered]] = {}
    for answered in items:
        parts.setdefault((answered.model, id(answered.rows.layout)), []).append(answered)
    return list(parts.values())


def _chunks(part: list[Answered]) -> Iterator[Chunk]:
    """Requests of CHUNK_ROWS together, or one that has more."""
    chunk: Chunk = []
    rows = 0
    for answered in part:
        chunk.append(answered)
        rows += answered.rows.count
        if rows >= CHUNK_ROWS:
            yield chunk
            chunk, rows = [], 0
    if chunk:
        yield chunk


def _replace(path: Path, table: pa.Table) -> int:
    """Write a file whole; its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        pq.write_table(table, unfinished, compression="zstd")
        size = unfinished.stat().st_size
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return size


def _columns(chunk: Sequence[Answered]) -> pa.Table:
    """The columns of `OURS`, then each raw feature under its own name, with its own type; one row for each row of a request.

    Args:
        chunk: at least one request; all of one layout.

    Raises:
        ReservedNameError: a feature has the name of a column of the log.
    """
    counts = np.array([answered.rows.count for answered in chunk])
    of_request = pa.array(np.repeat(np.arange(len(chunk)), counts))
    first_rows = np.repeat(np.cumsum(counts) - counts, counts)
    a_request = {
        "ct_request_id": [answered.request_id for answered in chunk],
        "ct_trace_id": [answered.trace_id for answered in chunk],
        "ct_at": [round(answered.at * 1e6) for answered in chunk],
        "ct_version": [answered.version for answered in chunk],
        "ct_variant": [answered.variant for answered in chunk],
    }
    found: dict[str, Any] = {
        "ct_row": pa.array(np.arange(counts.sum()) - first_rows, pa.int32()),
        "ct_prediction": pa.array([value for answered in chunk for value in answered.predictions], pa.float32()),
    }
    for name, values in a_request.items():
        kind = OURS.field(name).type
        plain = pa.array(values, pa.string()).dictionary_encode() if name == "ct_variant" else pa.array(values, kind)
        found[name] = plain.take(of_request)
    schema = _schema(chunk[0].rows.layout)
    found |= _features(join([answered.rows for answered in chunk]))
    return pa.Table.from_arrays([found[name] for name in schema.names], schema=schema)


def _features(rows: Rows) -> dict[str, pa.Array]:
    # Numbers go through numpy, as they do on their way to the model: Arrow refuses whole numbers that float32 rounds.
    groups = [(names, dtype) for names, dtype in rows.layout.groups() if names]
    return {
        name: pa.array(matrix[:, column], TYPES[dtype])
        for (names, dtype), matrix in zip(groups, rows.arrays(), strict=True)
        for column, name in enumerate(names)
    }


def _schema(layout: Layout) -> pa.Schema:
    reserved = sorted(layout.names.intersection(OURS.names))
    if reserved:
        raise ReservedNameError(
            f'A feature is named "{reserved[0]}", as a column of the prediction log is. Rows of its model are answered and '
            "not kept. Rename the feature in the pipeline and deploy it again.",
            feature=reserved[0],
        )
    return pa.schema([*OURS, *(pa.field(feature.name, TYPES[feature.dtype]) for feature in layout.features)])
