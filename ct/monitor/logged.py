"""The prediction log, read as files: serving's code belongs to another plane."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from ct.home import Home

LOG = logging.getLogger("ct.monitor")
CHAMPION = "champion"
MOST_ROWS = 100_000
"""Of one version in one watch; by then everything that is worth a rollback has shown."""


def rows_of_requests(home: Home, model: str, request_ids: Collection[str]) -> dict[str, int]:
    """How many rows each of these requests had, of those that are in the log."""
    wanted = pa.array(list(request_ids), pa.string())
    counts: dict[str, int] = {}
    for table in _tables(home, model, ("ct_request_id", "ct_row")):
        chosen = table.filter(pc.is_in(table["ct_request_id"], value_set=wanted))
        for request_id, row in zip(chosen["ct_request_id"].to_pylist(), chosen["ct_row"].to_pylist(), strict=True):
            counts[request_id] = max(counts.get(request_id, 0), row + 1)
    return counts


def predictions(home: Home, model: str, version: int, since: datetime) -> pa.Table:
    """What a version answered as champion since then: request_id, row, new; a row a key, at most MOST_ROWS or a file more."""
    parts = [
        pa.table(
            {
                "request_id": pa.array([], pa.string()),
                "row": pa.array([], pa.int32()),
                "new": pa.array([], pa.float32()),
            }
        )
    ]
    rows = 0
    for table in _tables(
        home, model, ("ct_request_id", "ct_row", "ct_at", "ct_version", "ct_variant", "ct_prediction")
    ):
        chosen = table.filter(
            pc.and_(
                pc.and_(
                    pc.equal(table["ct_version"], version),
                    pc.greater_equal(table["ct_at"], pa.scalar(since, table["ct_at"].type)),
                ),
                pc.equal(table["ct_variant"].cast(pa.string()), CHAMPION),
            )
        )
        parts.append(
            chosen.select(["ct_request_id", "ct_row", "ct_prediction"]).rename_columns(["request_id", "row", "new"])
        )
        rows += chosen.num_rows
        if rows >= MOST_ROWS:
            break
    return pa.concat_tables(parts)


def last_written(home: Home, model: str) -> float:
    """When a file of the log was last written, Unix seconds; 0 when there is none."""
    times = [0.0]
    for path in home.predictions(model).glob("*/*.parquet"):
        with suppress(FileNotFoundError):  # past the log's budget; a serving worker removed it
            times.append(path.stat().st_mtime)
    return max(times)


def _tables(home: Home, model: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Each file of the log, oldest first; one that is gone or damaged is left out."""
    folder = home.predictions(model)
    for path in sorted(folder.glob("*/*.parquet")):
        try:
            yield pq.read_table(path, columns=list(columns))
        except FileNotFoundError:
            continue  # past the log's budget; a serving worker removed it
        except (OSError, pa.ArrowException) as error:
            LOG.warning("%s cannot be read and is left out: %s", path, error)
