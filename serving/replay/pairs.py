"""What the previous version would have answered: `python -m serving.replay.pairs NAME --new 7 --previous 6 ...`.

The monitor runs it while version 7 serves, or, with `--variant canary`, answers as a canary beside 6. It takes the logged rows
that 7 answered since then and that are in no file of FOLDER yet, lets 6 predict them, and writes both predictions. One line of
JSON says how many rows; an error is one too. ::

    FOLDER/
      000001.parquet    request_id, row, new, previous; written whole or not at all
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ct.errors import CTError
from ct.home import Home
from ct.rollout import ModelStore
from serving.logs.prediction_log import read
from serving.replay.comparison import misfit
from serving.rows import BadRequestError, from_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from serving.replay.comparison import Candidate

SCHEMA = pa.schema(
    [("request_id", pa.string()), ("row", pa.int32()), ("new", pa.float32()), ("previous", pa.float32())]
)
VARIANTS = ("champion", "canary")
MOST_ROWS = 20_000
"""Of one call: what is left is for the next one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print `{"rows": n, "unfit": n, "failed": n}`, or `{"error": {...}}` and return 1."""
    parser = argparse.ArgumentParser(prog="python -m serving.replay.pairs", description="Pairs of predictions.")
    parser.add_argument("name")
    parser.add_argument("--new", type=int, required=True)
    parser.add_argument("--previous", type=int, required=True)
    parser.add_argument("--since", type=datetime.fromisoformat, required=True)
    parser.add_argument("--variant", choices=VARIANTS, default=VARIANTS[0], help="as what the new version answers")
    parser.add_argument("--into", type=Path, required=True)
    asked = parser.parse_args(arguments)
    try:
        told = _pair(Home.from_environment(), asked)
    except CTError as error:
        told = {"error": {**error.facts, "type": type(error).__name__, "message": error.message}}
    sys.stdout.write(json.dumps(told, default=str) + "\n")
    return 1 if "error" in told else 0


def _pair(home: Home, asked: argparse.Namespace) -> dict[str, Any]:
    batches = list(_fresh(home, asked, _known(asked.into)))
    if not batches:
        return {"rows": 0, "unfit": 0, "failed": 0}
    from serving.plane.version import limit_threads, load_version  # noqa: PLC0415  TensorFlow, only when there is work

    limit_threads(1)
    candidate = load_version(ModelStore(home, asked.name), asked.previous)
    tables, unfit, failed = [], 0, 0
    for batch in batches:
        if misfit(candidate.layout, batch.schema):
            unfit += batch.num_rows
            continue
        predicted = _predict(candidate, batch)
        failed += int(np.count_nonzero(np.isnan(predicted)))
        columns = [batch["ct_request_id"], batch["ct_row"], batch["ct_prediction"], pa.array(predicted, pa.float32())]
        tables.append(pa.Table.from_arrays(columns, schema=SCHEMA))
    if tables:
        _write(asked.into, pa.concat_tables(tables))
    return {"rows": sum(table.num_rows for table in tables), "unfit": unfit, "failed": failed}


def _known(folder: Path) -> set[tuple[str, int]]:
    """The rows that are in a file already."""
    known: set[tuple[str, int]] = set()
    for path in folder.glob("[0-9]*.parquet"):
        table = pq.ParquetFile(path).read(columns=["request_id", "row"])
        known.update(zip(table["request_id"].to_pylist(), table["row"].to_pylist(), strict=True))
    return known


def _fresh(home: Home, asked: argparse.Namespace, known: set[tuple[str, int]]) -> Iterator[pa.RecordBatch]:
    """Rows that the new version answered and that are not known yet, each once, MOST_ROWS or a batch more."""
    rows = 0
    for batch in read(home, asked.name, since=asked.since, variants=(asked.variant,)):
        mine = batch.filter(pc.equal(batch["ct_version"], asked.new))
        keys = list(zip(mine["ct_request_id"].to_pylist(), mine["ct_row"].to_pylist(), strict=True))
        places = []
        for place, key in enumerate(keys):
            if key not in known:
                known.add(key)
                places.append(place)
        if places:
            yield mine.take(pa.array(places))
            rows += len(places)
        if rows >= MOST_ROWS:
            return


def _predict(candidate: Candidate, batch: pa.RecordBatch) -> np.ndarray[Any, Any]:
    """Predictions, float32, (rows,); NaN for a row that the version cannot take, which would have been an error."""
    columns = {each.name: batch.column(each.name).to_pylist() for each in candidate.layout.features}
    rows = from_columns(candidate.layout, columns, "the log")
    try:
        return np.asarray(candidate.predict(rows), np.float32)
    except BadRequestError:
        if batch.num_rows == 1:
            return np.array([np.nan], np.float32)
    middle = batch.num_rows // 2
    return np.concatenate([_predict(candidate, part) for part in (batch.slice(0, middle), batch.slice(middle))])


def _write(folder: Path, table: pa.Table) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    newest = max((int(path.stem) for path in folder.glob("[0-9]*.parquet")), default=0)
    unfinished = folder / ".unfinished"
    pq.write_table(table, unfinished, compression="zstd")
    unfinished.replace(folder / f"{newest + 1:06d}.parquet")


if __name__ == "__main__":
    sys.exit(main())
