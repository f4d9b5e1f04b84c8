"""Record batches to files of tf.Example, several files at a time.

On disk::

    <part>/
      data_tfrecord-00000-of-00004.gz   tf.Examples, TFRecord, gzip
      ready.json                        {"files": [...], "rows": n, "quarantined": n}

A part is written under another name and renamed when it is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILES = 4
"""Of one part. Always the same: which rows stand in which file, and so what a model sees in which order, must not depend on
the machine. It is also the most threads that have something to do."""
ROWS_A_BATCH = 8192
GZIP_LEVEL = 1
"""Fast; the files are read a few times and thrown away."""
READY = "ready.json"


@dataclass(frozen=True)
class Part:
    """An encoded span, or the rows of it that one split needs."""

    files: tuple[Path, ...]
    rows: int
    quarantined: int


def encoders() -> ThreadPoolExecutor:
    """Threads that encode: encoding and gzip let go of the interpreter, so two cores do nearly twice as much as one."""
    return ThreadPoolExecutor(min(FILES, len(os.sched_getaffinity(0))), thread_name_prefix="encode")


def ready_part(folder: Path) -> Part | None:
    """The part in the folder, or None where there is no whole one."""
    try:
        counts = json.loads((folder / READY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if "files" not in counts:  # written before a part had several files
        return None
    return Part(tuple(folder / name for name in counts["files"]), counts["rows"], counts["quarantined"])


class PartWriter:
    """One part on its way to disk. The same batches give the same rows in the same order in the same files.

    Args:
        folder: where the part will be; what has no ready.json there is replaced.
        key: tells this writer's unfinished folder from those of others that encode the same part; what an earlier attempt
            with the same key left is removed.
        pool: encodes; batches are encoded while the next ones are read, a few of them are in memory.
    """

    def __init__(self, folder: Path, key: str, pool: Executor) -> None:
        self._folder = folder
        self._unfinished = folder.with_name(f".{folder.name}.{key}")
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._unfinished.mkdir(parents=True)
        self._pool = pool
        self._lanes: list[_Lane] = []
        self._batches = 0
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Encode the rows. Waits while a batch that was given earlier to the same file is on its way."""
        for begin in range(0, batch.num_rows, ROWS_A_BATCH):
            if len(self._lanes) < FILES:
                self._lanes.append(_Lane(self._unfinished / f"{len(self._lanes)}.gz"))
            self._lanes[self._batches % FILES].submit(self._pool, batch.slice(begin, ROWS_A_BATCH))
            self._batches += 1
        self.rows += batch.num_rows

    def finish(self, quarantined: int) -> Part:
        """Make the part whole under its name. Another run may have been faster: then its part is what is there."""
        for lane in self._lanes:
            lane.close()
        names = [f"data_tfrecord-{index:05}-of-{len(self._lanes):05}.gz" for index in range(len(self._lanes))]
        for lane, name in zip(self._lanes, names, strict=True):
            lane.path.rename(self._unfinished / name)
        counts = {"files": names, "rows": self.rows, "quarantined": quarantined}
        (self._unfinished / READY).write_text(json.dumps(counts), encoding="utf-8")
        if ready_part(self._folder) is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._unfinished.rename(self._folder)
        else:
            shutil.rmtree(self._unfinished)
        return Part(tuple(self._folder / name for name in names), self.rows, quarantined)

    def discard(self) -> None:
        """Remove what has been written; nothing to remove after `finish`. Errors of the encoders are theirs who wait."""
        for lane in self._lanes:
            lane.abandon()
        shutil.rmtree(self._unfinished, ignore_errors=True)


class _Lane:
    """One file, written by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=GZIP_LEVEL)
        self._writer = tf.io.TFRecordWriter(str(path), options)
        self._pending: Future[None] | None = None

    def submit(self, pool: Executor, batch: pa.RecordBatch) -> None:
        self._wait()
        self._pending = pool.submit(self._write, batch)

    def close(self) -> None:
        self._wait()
        self._writer.close()

    def abandon(self) -> None:
        if self._pending is not None:
            self._pending.exception()
        self._writer.close()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()

    def _write(self, batch: pa.RecordBatch) -> None:
        for example in encode(batch):
            self._writer.write(example)


def encode(batch: pa.RecordBatch) -> Sequence[bytes]:
    """Each row as a serialized tf.Example."""
    lists = [one_value_lists(column) for column in batch.columns]
    examples: Sequence[bytes] = RecordBatchToExamplesEncoder().encode(
        pa.RecordBatch.from_arrays(lists, batch.schema.names)
    )
    return examples


def one_value_lists(column: pa.Array) -> Any:
    """Arrow's columns as tf.Example wants them: a list a row, null where there is no value."""
    if pa.types.is_string(column.type):
        column = column.cast(pa.binary())
    present = pc.is_valid(column)
    offsets = pa.concat_arrays(
        [pa.array([0], pa.int32()), pc.cumulative_sum(present.cast(pa.int32())).cast(pa.int32())]
    )
    lists = pa.ListArray.from_arrays(offsets, column.drop_null())
    return pc.if_else(present, lists, pa.scalar(None, lists.type)) if column.null_count else lists
