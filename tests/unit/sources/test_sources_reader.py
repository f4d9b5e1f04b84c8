"""What a careful engineer expects of each malformed span: refused with a reason, or exactly the bad rows left out."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ct.errors import SpanRefusedError
from ct.sources.reader import Column, ColumnType, read_span

COLUMNS = (
    Column("carrier", ColumnType.STRING, required=True),
    Column("distance", ColumnType.FLOAT, required=False),
    Column("late", ColumnType.INT, required=True),
)
GOOD = b"carrier,distance,late\nUA,100.5,0\nAA,,1\n"


def read(path: Path, max_bad_rows: int = 0):
    return read_span(
        path, path.suffix[1:], COLUMNS, max_bad_rows=max_bad_rows, quarantine_to=path.parent / "quarantine"
    )


def csv(folder: Path, content: bytes) -> Path:
    path = folder / "2013-01.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (GOOD, [("UA", 100.5, 0), ("AA", None, 1)]),
        (b"\xef\xbb\xbf" + GOOD, [("UA", 100.5, 0), ("AA", None, 1)]),
        (GOOD.replace(b"\n", b"\r\n"), [("UA", 100.5, 0), ("AA", None, 1)]),
        (b"late,carrier,distance\n1,UA,3\n", [("UA", 3.0, 1)]),
        (b'carrier,distance,late\n"U, A",1,0\n"a ""quoted"" one",2,1\n', [("U, A", 1.0, 0), ('a "quoted" one', 2.0, 1)]),
        (b'carrier,distance,late\n"two\nlines",1,0\n', [("two\nlines", 1.0, 0)]),
        ("carrier,distance,late\nÜA,1,0\n".encode(), [("ÜA", 1.0, 0)]),
        (b"carrier,distance,late\nUA,1e2,-0\n", [("UA", 100.0, 0)]),
    ],
    ids=["plain", "bom", "crlf", "columns in another order", "quotes", "quoted line end", "umlaut", "exponent"],
)
def test_a_good_csv_is_read_whole(tmp_path: Path, content: bytes, rows: list[tuple[object, ...]]) -> None:
    """Every way to write the same good rows gives the same table, with no row left out."""
    span = read(csv(tmp_path, content))
    assert [tuple(row.values()) for row in span.table.to_pylist()] == rows
    assert span.quarantined == 0
    assert span.table.schema == pa.schema([(c.name, c.type.arrow) for c in COLUMNS])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"carrier,distance,late\n", "it has no rows"),
        (b"carrier,carrier,late\nUA,1,0\n", 'names "carrier" more than once'),
        (b"carrier,,late\nUA,1,0\n", "column 2 of its header has no name"),
        (b"carrier,late\nUA,0\n", 'lacks "distance"'),
        (b"carrier,distance,late,tailnum\nUA,1,0,N1\n", 'unknown "tailnum"'),
        (b"carrier;distance;late\nUA;1;0\n", 'lacks "carrier", "distance", "late"'),
        (b'carrier,distance,late\n"UA,1,0\nAA,2,1\n', "line 2"),
        (b"carrier,distance,late\nUA,1\n", "line 2: it has 2 fields, the header has 3"),
        (b"carrier,distance,late\nUA,1,0,9\n", "line 2: it has 4 fields, the header has 3"),
        (b"carrier,distance,late\nUA,far,0\n", "line 2, column \"distance\": 'far' is not a number"),
        (b"carrier,distance,late\nUA,1,0\nUA,1,1.5\n", "line 3, column \"late\": '1.5' is not a whole number"),
        (b"carrier,distance,late\nUA,1,9223372036854775808\n", "does not fit in 64 bits"),
        (b"carrier,distance,late\nUA,1e39,0\n", "finite number of 32 bits"),
        (b"carrier,distance,late\nUA,nan,0\n", "finite number"),
        (b"carrier,distance,late\nUA,-inf,0\n", "finite number"),
        (b"carrier,distance,late\nUA,1,\n", 'column "late": has no value'),
        (b"carrier,distance,late\n,1,0\n", 'column "carrier": has no value'),
        (b'carrier,distance,late\n"two\nlines",1,0\nUA,x,0\n', "line 4"),
        (b"carrier,distance,late\nU\x00A,1,0\n", "holds a NUL byte"),
        (b"carrier,distance,late\n\xff\xfe,1,0\n", "is not UTF-8"),
        (b"carrier,distance,late\nUA,1,0\n\nAA,1,0\n", "line 3: the line is empty"),
        (b"\x00" * 40, "header"),
        (b"\xff\xfec\x00a\x00", "header"),
    ],
)
def test_a_bad_csv_is_refused_with_the_place_and_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    """With no bad row allowed the span is refused; the message names the line, the column and what was found."""
    with pytest.raises(SpanRefusedError) as refused:
        read(csv(tmp_path, content))
    assert reason in str(refused.value)
    assert '"2013-01"' in str(refused.value)
    assert "Nothing was trained on it" in str(refused.value)
    assert not refused.value.retryable


def test_exactly_the_bad_rows_are_quarantined_within_the_limit(tmp_path: Path) -> None:
    """Up to max_bad_rows the good rows are kept, the bad ones stand in the quarantine file with line, column and reason."""
    path = csv(tmp_path, b"carrier,distance,late\nUA,1,0\nAA,far,1\nB6,3,1\nDL,4\n")
    span = read(path, max_bad_rows=2)
    assert span.table["carrier"].to_pylist() == ["UA", "B6"]
    assert span.quarantined == 2
    kept = [json.loads(line) for line in (tmp_path / "quarantine" / "2013-01.jsonl").read_text().splitlines()]
    assert [(row["line"], row["column"]) for row in kept] == [(3, "distance"), (5, None)]


def test_one_bad_row_past_the_limit_refuses_the_span(tmp_path: Path) -> None:
    """The limit is exact."""
    path = csv(tmp_path, b"carrier,distance,late\nUA,1,0\nAA,far,1\nDL,4\n")
    with pytest.raises(SpanRefusedError, match="and 1 more bad rows; 1 are allowed"):
        read(path, max_bad_rows=1)


def test_a_corrected_span_clears_its_quarantine_file(tmp_path: Path) -> None:
    """Old bad rows do not outlive the file they came from."""
    with pytest.raises(SpanRefusedError):
        read(csv(tmp_path, b"carrier,distance,late\nUA,far,0\n"))
    read(csv(tmp_path, GOOD))
    assert not (tmp_path / "quarantine" / "2013-01.jsonl").exists()


def parquet(folder: Path, **columns: pa.Array) -> Path:
    path = folder / "2013-01.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_a_parquet_with_wider_types_is_read_in_the_agreed_ones(tmp_path: Path) -> None:
    """Doubles, small ints and dictionary text are what writers produce; no value changes its meaning."""
    path = parquet(
        tmp_path,
        carrier=pa.array(["UA", "AA"]).dictionary_encode(),
        distance=pa.array([1.5, None], pa.float64()),
        late=pa.array([0, 1], pa.int8()),
    )
    assert read(path).table.schema == pa.schema([(c.name, c.type.arrow) for c in COLUMNS])


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"carrier": ["UA"], "distance": [1.0]}, 'lacks "late"'),
        ({"carrier": ["UA"], "distance": [1.0], "late": [0], "x": [1]}, 'unknown "x"'),
        ({"carrier": ["UA"], "distance": ["1"], "late": [0]}, 'column "distance" holds text'),
        ({"carrier": ["UA"], "distance": [1.0], "late": [0.5]}, 'column "late" is double'),
        ({"carrier": ["UA"], "distance": [float("nan")], "late": [0]}, "row 1"),
        ({"carrier": ["UA", None], "distance": [1.0, 1.0], "late": [0, 0]}, "row 2"),
        ({"carrier": [], "distance": [], "late": []}, "it has no rows"),
    ],
)
def test_a_bad_parquet_is_refused_with_the_reason(tmp_path: Path, columns: dict[str, list[object]], reason: str) -> None:
    """Names, types, missing and non-finite values are checked like a CSV's."""
    types = {"carrier": pa.string()} if columns["carrier"] == [] else {}
    path = parquet(tmp_path, **{name: pa.array(values, types.get(name)) for name, values in columns.items()})
    with pytest.raises(SpanRefusedError) as refused:
        read(path)
    assert reason in str(refused.value)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_parquet_is_refused(tmp_path: Path, keep: int) -> None:
    """A file cut anywhere is not a whole Parquet file."""
    path = parquet(tmp_path, carrier=pa.array(["UA"]), distance=pa.array([1.0]), late=pa.array([0]))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SpanRefusedError, match="empty|not a whole Parquet"):
        read(path)
