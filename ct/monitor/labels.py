"""Labels that come later: what really happened to rows that were predicted.

::

    labels/<model>/
      lock
      000001.parquet    request_id, row, label: what one command said that was new, or other than before
      000002.parquet    the higher number counts

The same labels twice change nothing; a corrected label counts from then on.
"""

from __future__ import annotations

import csv
import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ct.errors import CTError
from ct.monitor.logged import rows_of_requests

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ct.home import Home

SCHEMA = pa.schema([("request_id", pa.string()), ("row", pa.int32()), ("label", pa.int8())])
WORDS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
"""How files write the two classes; case does not matter."""

Key = tuple[str, int]


class LabelsRefusedError(CTError):
    """A file of labels has something wrong in it. None of its labels were taken."""


@dataclass(frozen=True)
class Added:
    """What became of a file's labels."""

    new: int
    corrected: int
    known: int
    unlogged: int
    """Of all of them, those whose row is not in the prediction log: it is a sample. They are kept and compare nothing."""


class LabelStore:
    """The labels of one model."""

    def __init__(self, home: Home, model: str) -> None:
        self._home = home
        self._model = model
        self.folder = home.labels(model)

    def add(self, path: Path, column: str) -> Added:
        """Take the labels of a file, all or none.

        Args:
            path: CSV with a header, or Parquet: `request_id`, `row` where a request had several rows, and the label.
            column: what the label is called.

        Raises:
            LabelsRefusedError: the file cannot be read, lacks a column, or a line says something wrong; the message names it.
        """
        said = _checked(path, column, self._home, self._model)
        logged = rows_of_requests(self._home, self._model, {request_id for request_id, _ in said})
        with self._alone():
            before = self.of({request_id for request_id, _ in said})
            changed = {key: label for key, label in said.items() if key not in before or before[key][1] != label}
            if changed:
                self._write(changed)
        corrected = sum(key in before for key in changed)
        return Added(
            new=len(changed) - corrected,
            corrected=corrected,
            known=len(said) - len(changed),
            unlogged=sum(row >= logged.get(request_id, 0) for request_id, row in said),
        )

    def of(self, request_ids: Iterable[str]) -> dict[Key, tuple[int, int]]:
        """The labels of these requests: (request id, row) -> (place in the order in which labels came, label)."""
        wanted = pa.array(list(request_ids), pa.string())
        found: dict[Key, tuple[int, int]] = {}
        place = 0
        for path in self.files():
            table = pq.read_table(path, schema=SCHEMA)
            chosen = table.filter(pc.is_in(table["request_id"], value_set=wanted))
            for request_id, row, label in zip(*(column.to_pylist() for column in chosen.columns), strict=True):
                found[request_id, row] = (place, label)
                place += 1
        return found

    def files(self) -> list[Path]:
        """The files, the one that counts most last."""
        return sorted(self.folder.glob("[0-9]*.parquet"))

    def _write(self, labels: dict[Key, int]) -> None:
        columns = [[request_id for request_id, _ in labels], [row for _, row in labels], list(labels.values())]
        table = pa.table([pa.array(values, kind.type) for values, kind in zip(columns, SCHEMA, strict=True)], SCHEMA)
        newest = max((int(path.stem) for path in self.files()), default=0)
        unfinished = self.folder / ".unfinished"
        with unfinished.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.folder / f"{newest + 1:06d}.parquet")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _checked(path: Path, column: str, home: Home, model: str) -> dict[Key, int]:
    """Every label of a file, once its lines are seen to be right."""
    lines: list[tuple[int, str, str | None, int]] = []
    for line, request_id, row, value in _lines(path, column):
        label = WORDS.get(str(value).strip().lower())
        if not request_id:
            raise _wrong(path, line, "it has no request_id")
        if label is None:
            raise _wrong(path, line, f"{column} is {str(value)[:40]!r}, and must be 0 or 1")
        lines.append((line, request_id, row, label))
    counts = rows_of_requests(home, model, {request_id for _, request_id, _, _ in lines})
    said: dict[Key, int] = {}
    for line, request_id, row, label in lines:
        key = request_id, _row(path, line, request_id, row, counts.get(request_id, 1))
        if said.setdefault(key, label) != label:
            raise _wrong(path, line, f"request {request_id[:80]}, row {key[1]} had another label further up")
    return said


def _row(path: Path, line: int, request_id: str, row: str | None, count: int) -> int:
    if row is None or row == "":
        if count > 1:
            raise _wrong(
                path, line, f"request {request_id[:80]} had {count} rows; say which in a column `row`, from 0 on"
            )
        return 0
    if not row.isdecimal():
        raise _wrong(path, line, f"row is {row[:40]!r}, and must be a whole number from 0 on")
    return int(row)


def _lines(path: Path, column: str) -> Iterator[tuple[int, str, str | None, Any]]:
    """Line, request id, row and label of each line; of Parquet, the number of the row from 1 on."""
    try:
        if path.suffix == ".parquet":
            yield from _parquet_lines(path, column)
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _require(path, reader.fieldnames or (), column)
            for record in reader:
                yield reader.line_num, record["request_id"] or "", record.get("row"), record[column]
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise LabelsRefusedError(
            f"{path} cannot be read as labels: {error}. None were taken.", path=str(path)
        ) from error


def _parquet_lines(path: Path, column: str) -> Iterator[tuple[int, str, str | None, Any]]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        _require(path, names, column)
        has_row = "row" in names
        line = 0
        for batch in file.iter_batches(columns=["request_id", column, *(["row"] if has_row else [])]):
            for record in batch.to_pylist():
                line += 1
                row = record.get("row")
                yield line, str(record["request_id"] or ""), None if row is None else str(row), record[column]


def _require(path: Path, names: Iterable[str], column: str) -> None:
    lacking = [name for name in ("request_id", column) if name not in names]
    if lacking:
        raise LabelsRefusedError(
            f"{path} lacks the column {' and '.join(lacking)}; it has {', '.join(names) or 'none'}. No labels were taken. "
            f"Labels have the columns request_id, {column}, and `row` where a request had several rows.",
            path=str(path),
            lacking=lacking,
        )


def _wrong(path: Path, line: int, what: str) -> LabelsRefusedError:
    return LabelsRefusedError(
        f"{path}, line {line}: {what}. None of the file's labels were taken. Correct the line and run the command again.",
        path=str(path),
        line=line,
    )
