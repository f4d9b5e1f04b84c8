"""schema.pbtxt as the columns that a span must have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct.sources.reader import Column, ColumnType
from ct.training.schema import columns_of, read_schema

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = """
feature { name: "at" type: BYTES presence { min_fraction: 1 min_count: 1 } shape { } }
feature { name: "day" type: INT presence { min_fraction: 1 } int_domain { min: 0 max: 6 } }
feature { name: "humid" type: FLOAT float_domain { max: 100.5 } }
feature { name: "origin" type: BYTES string_domain { value: "EWR" } }
"""


def test_types_presence_and_ranges_of_a_schema_become_columns(tmp_path: Path) -> None:
    """A bound that the schema does not set is none, also where protobuf's default is 0; values of text are TFDV's to check."""
    path = tmp_path / "schema.pbtxt"
    path.write_text(SCHEMA, encoding="utf-8")
    assert columns_of(read_schema(path)) == (
        Column("at", ColumnType.STRING, required=True),
        Column("day", ColumnType.INT, required=True, minimum=0, maximum=6),
        Column("humid", ColumnType.FLOAT, required=False, maximum=100.5),
        Column("origin", ColumnType.STRING, required=False),
    )
