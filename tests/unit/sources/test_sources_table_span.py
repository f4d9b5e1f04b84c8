"""Rows as Parquet: the same rows give the same bytes, however they came."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ct.sources.table_span import ROWS_A_GROUP, write_table_span

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 2 * ROWS_A_GROUP + 1000


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Numbers, texts of many lengths, and nulls."""
    numbers = random.Random(1)  # noqa: S311  nobody must be surprised by it
    values = [numbers.random() for _ in range(ROWS)]
    texts = [None if n % 7 == 0 else "x" * (n % 97) + str(n % 1000) for n in range(ROWS)]
    return pa.table({"value": values, "text": texts})


def written(table: pa.Table, size: int, path: Path) -> str:
    """The hash of the file when the rows come in batches of this size."""
    assert write_table_span(table.schema, table.to_batches(size), path) == table.num_rows
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [999, ROWS_A_GROUP - 1, ROWS_A_GROUP, ROWS])
def test_batches_of_any_size_give_the_same_bytes(tmp_path: Path, table: pa.Table, size: int) -> None:
    """So that a driver's paging never makes a revision."""
    assert written(table, size, tmp_path / "a.parquet") == written(table, 5000, tmp_path / "b.parquet")


def test_all_rows_are_there_in_order_in_fixed_groups(tmp_path: Path, table: pa.Table) -> None:
    """The last group holds the rest."""
    written(table, 777, tmp_path / "a.parquet")
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        groups = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    assert groups == [ROWS_A_GROUP, ROWS_A_GROUP, 1000]
    assert pq.read_table(tmp_path / "a.parquet").equals(table)


def test_no_rows_are_a_file_with_the_columns(tmp_path: Path, table: pa.Table) -> None:
    """The reader refuses it with a reason, as it does any empty span."""
    assert write_table_span(table.schema, [], tmp_path / "a.parquet") == 0
    assert pq.read_schema(tmp_path / "a.parquet").names == ["value", "text"]
