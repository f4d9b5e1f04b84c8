"""The prediction log: a sample of the answered rows with their predictions, for replays and for labels that come later.

::

    predictions/<model>/<YYYY-MM-DD>/<HHMMSS>Z-<pid>-<number>.parquet

serving.logs.prediction_files says which columns. A file holds one layout of features. It grows for up to FILE_S seconds, by
being replaced whole, so that quiet hours leave tens of files and not thousands; a reader never sees half a file.
"""

from __future__ import annotations

import logging
import time
import zlib
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from serving.logs.background import Background
from serving.logs.prediction_files import FILE_S, OURS, Answered, PredictionFiles, by_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from ct.home import Home

LOG = logging.getLogger("ct.serving")
ANSWERED = ("champion", "canary", "pinned")
"""The variants whose predictions a client got."""
EVERY_S = 5.0
WAKE_ROWS = 5_000
LIMIT_ROWS = 50_000
"""Rows that may wait; some 40 MB with a dozen features."""
MAX_CHARACTERS = 1_024
READ_ROWS = 4_096
MIB = 1024 * 1024
LATE = timedelta(seconds=FILE_S + 60)
"""A row is in a file whose name is at most this much older."""


class PredictionLog:
    """One worker's prediction log. `wants` and `add` are for the event loop; a thread writes.

    Args:
        home: files go to its predictions/.
        share: of the requests that are kept, 0 to 1.
        budget_mb: MiB of a model's files, those of all workers together; past it the oldest go.
        clock: Unix seconds.
        every_s: seconds after which rows are on disk, or sooner when WAKE_ROWS have come.
        limit_rows: rows that may wait for the disk; more are dropped and counted.
    """

    def __init__(
        self,
        home: Home,
        *,
        share: float,
        budget_mb: float,
        clock: Callable[[], float] = time.time,
        every_s: float = EVERY_S,
        limit_rows: int = LIMIT_ROWS,
    ) -> None:
        self._below = int(share * (1 << 32))
        self._files = PredictionFiles(home, budget_mb * MIB, clock)
        self._background: Background[Answered] = Background(
            "prediction log",
            self._write,
            split=by_layout,
            size=lambda answered: answered.rows.count,
            limit=limit_rows,
            wake_at=min(WAKE_ROWS, limit_rows),
            every_s=every_s,
        )

    @property
    def written(self) -> int:
        """Rows on disk."""
        return self._background.written

    @property
    def dropped(self) -> int:
        """Rows lost because the buffer was full or the disk did not take them."""
        return self._background.dropped

    def wants(self, request_id: str) -> bool:
        """Whether this request is of the sample: the same answer for each variant of it, in every worker."""
        # The factor (2**32 over the golden ratio) spreads ids that count up; a canary's draw is another hash, and independent.
        return zlib.crc32(request_id.encode(errors="replace")) * 0x9E3779B1 & 0xFFFFFFFF < self._below

    def add(self, answered: Answered) -> None:
        """Keep a request that `wants` chose. Never blocks, never does I/O; drops and counts when the buffer is full."""
        if answered.rows.count:
            self._background.put(answered, answered.rows.count)

    def start(self) -> None:
        """Begin to write; touches no disk yet."""
        self._background.start()

    def stop(self) -> None:
        """Write what is buffered, then return. Safe to call twice."""
        self._background.stop()

    def _write(self, part: list[Answered]) -> None:
        self._files.write(part, self._background.paced)


def read(
    home: Home,
    model: str,
    *,
    since: datetime,
    until: datetime | None = None,
    variants: Collection[str] = ANSWERED,
    skipped: list[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """What was logged of a model, file by file in the order of their names; one file's rows are in memory at a time at most.

    Args:
        home: where the log is.
        model: whose rows.
        since: the earliest arrival, with a time zone.
        until: arrivals before this; None for no end.
        variants: by default those that clients saw.
        skipped: gets a line for each file that cannot be read. It is logged as a warning too.

    Yields:
        Batches of up to READ_ROWS rows; those of one layout have one schema, and layouts may change between batches.
    """
    wanted = pa.array(variants, pa.string())
    # `since` falls anywhere in a second, and names have whole ones.
    first = f"{since.astimezone(timezone.utc) - LATE:%Y-%m-%d/%H%M%S}"
    folder = home.predictions(model)
    for path in sorted(folder.glob("*/*.parquet")):
        if path.relative_to(folder).as_posix() < first:
            continue
        try:
            with pq.ParquetFile(path) as file:
                if file.schema_arrow.names[: len(OURS)] != OURS.names:
                    raise pa.ArrowInvalid("it lacks the columns of a prediction log")
                for batch in file.iter_batches(READ_ROWS):
                    chosen = batch.filter(_chosen(batch, since, until, wanted))
                    if chosen.num_rows:
                        yield chosen
        except FileNotFoundError:
            continue  # past the budget; a worker removed it
        except (OSError, pa.ArrowException) as error:
            LOG.warning("%s cannot be read and is left out: %s", path, error)
            if skipped is not None:
                skipped.append(f"{path}: {error}")


def _chosen(batch: pa.RecordBatch, since: datetime, until: datetime | None, variants: pa.Array) -> pa.Array:
    at = batch.column("ct_at")
    chosen = pc.and_(
        pc.greater_equal(at, pa.scalar(since, at.type)),
        pc.is_in(batch.column("ct_variant").dictionary_decode(), value_set=variants),
    )
    return chosen if until is None else pc.and_(chosen, pc.less(at, pa.scalar(until, at.type)))
