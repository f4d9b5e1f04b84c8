"""What a careful engineer expects of each malformed span: refused with a reason, or exactly the bad rows left out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from ct.errors import SpanRefusedError
from ct.sources import csv_blocks, parquet_span
from ct.sources.careful import ROWS_A_BATCH
from ct.sources.quarantine import ROWS_KEPT_AT_LEAST
from ct.sources.reader import Column, ColumnType, SpanFile, read_span

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = (
    Column("carrier", ColumnType.STRING, required=True),
    Column("distance", ColumnType.FLOAT, required=False),
    Column("late", ColumnType.INT, required=True),
)
CSV_WAYS = [
    *("plain", "bom", "crlf", "columns in another order", "quotes", "line end in quotes", "umlaut", "exponent"),
    *("signs", "quote in quotes", "empty line in quotes", "largest int"),
]
GOOD = b"carrier,distance,late\nUA,100.5,0\nAA,,1\n"


@dataclass(frozen=True)
class Read:
    """All of a span."""

    table: pa.Table
    rows: int
    quarantined: int


def read(path: Path, max_bad_rows: int = 0, columns: tuple[Column, ...] = COLUMNS) -> Read:
    """The span as ExampleGen would read it."""
    span = SpanFile(path.stem, path)
    quarantine_to = path.parent / "quarantine"
    schema = pa.schema([(column.name, column.type.arrow) for column in columns])
    with read_span(span, path.suffix[1:], columns, max_bad_rows=max_bad_rows, quarantine_to=quarantine_to) as stream:
        table = pa.Table.from_batches(stream, schema)
    return Read(table, stream.rows, stream.quarantined)


def csv(folder: Path, content: bytes) -> Path:
    """A CSV span of exactly these bytes."""
    path = folder / "2013-01.csv"
    path.write_bytes(content)
    return path


def quarantined(folder: Path) -> list[dict[str, object]]:
    """The rows that were left out, as they stand on disk."""
    return [json.loads(line) for line in (folder / "quarantine" / "2013-01.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (GOOD, [("UA", 100.5, 0), ("AA", None, 1)]),
        (b"\xef\xbb\xbf" + GOOD, [("UA", 100.5, 0), ("AA", None, 1)]),
        (GOOD.replace(b"\n", b"\r\n"), [("UA", 100.5, 0), ("AA", None, 1)]),
        (b"late,carrier,distance\n1,UA,3\n", [("UA", 3.0, 1)]),
        (
            b'carrier,distance,late\n"U, A",1,0\n"a ""quoted"" one",2,1\n',
            [("U, A", 1.0, 0), ('a "quoted" one', 2.0, 1)],
        ),
        (b'carrier,distance,late\n"two\nlines",1,0\n', [("two\nlines", 1.0, 0)]),
        ("carrier,distance,late\nÜA,1,0\n".encode(), [("ÜA", 1.0, 0)]),
        (b"carrier,distance,late\nUA,1e2,-0\n", [("UA", 100.0, 0)]),
        (b"carrier,distance,late\nUA,+.5,+7\n", [("UA", 0.5, 7)]),
        (b'carrier,distance,late\n"",1,0\n'.replace(b'""', b'"U""A"'), [('U"A', 1.0, 0)]),
        (b'carrier,distance,late\n"a\n\nb",1,0\n', [("a\n\nb", 1.0, 0)]),
        (b"carrier,distance,late\nUA,1,9223372036854775807\n", [("UA", 1.0, 9223372036854775807)]),
    ],
    ids=CSV_WAYS,
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
        (b"carrier,distance,late\n", "it has a header and no rows"),
        (b"carrier,distance,late", "it has a header and no rows"),
        (b"\n", 'lacks "carrier", "distance", "late"'),
        (b"carrier,carrier,late\nUA,1,0\n", 'names "carrier" more than once'),
        (b"carrier,,late\nUA,1,0\n", "column 2 of its header has no name"),
        (b"carrier,late\nUA,0\n", 'lacks "distance"'),
        (b"carrier,distance,late,tailnum\nUA,1,0,N1\n", 'unknown "tailnum"'),
        (b"carrier;distance;late\nUA;1;0\n", "fields are separated by commas"),
        (b"carrier,distanse,late\nUA,1,0\n", 'is "distanse" meant to be "distance"?'),
        (b"carrier,distance,\xff\nUA,1,0\n", "its header is not UTF-8"),
        (b"carrier,distance,la\x00te\nUA,1,0\n", "its header holds a NUL byte"),
        (b'carrier,distance,"late\nUA,1,0\n', "its header cannot be read"),
        (b"x" * 200_000, "its header cannot be read"),
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
        (b"carrier,distance,late\nUA,1,0\n\n", "line 3: the line is empty"),
        (b"carrier,distance,late\r\nUA,1,0\r\n\r\nAA,1,0\r\n", "line 3: the line is empty"),
        (b"carrier,distance,late\nUA,1,0\nAA,1,1", "line 3: the file ends within this line"),
        (b"carrier,distance,late\nUA,1,0\nAA,1", "line 3: the file ends within this line"),
        (b"carrier,distance,late\nUA,1,0x10\n", "'0x10' is not a whole number"),
        (b"carrier,distance,late\nUA,1_000,0\n", "'1_000' is not a number"),
        ("carrier,distance,late\nUA,١٢,0\n".encode(), "is not a number"),
        (b"carrier,distance,late\nUA,1," + b"9" * 5000 + b"\n", "does not fit in 64 bits"),
        (b'carrier,distance,late\n"U"A,1,0\n', "line 2: ',' expected after"),
        (b"carrier,distance,late\nUA,1,\nAA,2,\n", "and 1 more bad row in the first 2 rows; 0 allowed"),
        (b"\x00" * 40, "its header holds a NUL byte"),
        (b"\xff\xfec\x00a\x00", "it is no CSV in UTF-8 but UTF-16"),
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
    str(refused.value).encode()  # a message with half a character would break the log that it is written to


def test_exactly_the_bad_rows_are_quarantined_within_the_limit(tmp_path: Path) -> None:
    """Up to max_bad_rows the good rows are kept, the bad ones stand in the quarantine file with line, column and reason."""
    path = csv(tmp_path, b"carrier,distance,late\nUA,1,0\nAA,far,1\nB6,3,1\nDL,4\n")
    span = read(path, max_bad_rows=2)
    assert span.table["carrier"].to_pylist() == ["UA", "B6"]
    assert span.quarantined == 2
    assert quarantined(tmp_path) == [
        {"line": 3, "column": "distance", "reason": "'far' is not a number", "raw": "AA,far,1"},
        {"line": 5, "column": None, "reason": "it has 2 fields, the header has 3", "raw": "DL,4"},
    ]


def test_one_bad_row_past_the_limit_refuses_the_span(tmp_path: Path) -> None:
    """The limit is exact."""
    path = csv(tmp_path, b"carrier,distance,late\nUA,1,0\nAA,far,1\nDL,4\n")
    with pytest.raises(SpanRefusedError, match="and 1 more bad row in the first 3 rows; 1 allowed"):
        read(path, max_bad_rows=1)


def test_bad_bytes_are_quarantined_with_their_line_and_do_no_harm_to_other_rows(tmp_path: Path) -> None:
    """A NUL or a byte that is not UTF-8 costs its own row only, and the quarantine file itself stays readable text."""
    path = csv(tmp_path, b'carrier,distance,late\nUA,1,0\nA\x00A,1,0\n"two\nlines",1,1\nB\xff6,1,0\nDL,4,1\n')
    span = read(path, max_bad_rows=2)
    assert span.table["carrier"].to_pylist() == ["UA", "two\nlines", "DL"]
    assert [(row["line"], row["reason"]) for row in quarantined(tmp_path)] == [
        (3, "holds a NUL byte"),
        (6, "is not UTF-8"),
    ]


def test_a_quote_that_only_the_end_of_the_file_closes_is_no_field(tmp_path: Path) -> None:
    """Arrow alone would take all rows after a stray quote for one field of text and say nothing."""
    columns = (COLUMNS[2], COLUMNS[0])
    path = csv(tmp_path, b'late,carrier\n0,"UA\n' + b"1,AA\n" * 50)
    with pytest.raises(SpanRefusedError, match="line 2: a quote is opened there and never closed"):
        read(path, 9, columns)


def test_an_empty_line_is_not_a_row_of_missing_values(tmp_path: Path) -> None:
    """Also where no column is required; Arrow alone would read a row of nulls."""
    columns = tuple(Column(column.name, column.type, required=False) for column in COLUMNS)
    with pytest.raises(SpanRefusedError, match="line 3: the line is empty"):
        read(csv(tmp_path, GOOD.replace(b"AA", b"\nAA")), 0, columns)
    with pytest.raises(SpanRefusedError, match="line 2: the line is empty"):
        read(csv(tmp_path, GOOD.replace(b"UA", b"\nUA")), 0, columns)


def test_every_bad_row_is_counted_but_only_some_are_kept_of_a_refused_span(tmp_path: Path) -> None:
    """A file of rubbish cannot fill memory or the disk with copies of itself."""
    with pytest.raises(SpanRefusedError, match=f"and {ROWS_KEPT_AT_LEAST + 499:,} more bad rows"):
        read(csv(tmp_path, GOOD + b"UA,far,0\n" * (ROWS_KEPT_AT_LEAST + 500)))
    assert len(quarantined(tmp_path)) == ROWS_KEPT_AT_LEAST


def test_a_span_of_many_chunks_with_one_bad_row_keeps_all_others_in_order(tmp_path: Path) -> None:
    """Reading row by row does not lose or repeat rows where its chunks meet."""
    rows = 2 * ROWS_A_BATCH + 1
    body = "".join(f"UA,{number},0\n" for number in range(rows))
    span = read(csv(tmp_path, f"carrier,distance,late\nAA,far,1\n{body}".encode()), max_bad_rows=1)
    assert span.rows == rows
    assert span.table["distance"].to_pylist() == list(range(rows))


def test_a_span_without_one_good_row_is_refused_whatever_is_allowed(tmp_path: Path) -> None:
    """For example a label that is missing in every row: the message names the first, not just that nothing is left."""
    path = csv(tmp_path, b"carrier,distance,late\nUA,1,\nAA,2,\nB6,3,\n")
    with pytest.raises(
        SpanRefusedError, match=r'line 2, column "late": has no value.* and 2 more bad rows, so no row is'
    ):
        read(path, max_bad_rows=100)


def test_a_corrected_span_clears_its_quarantine_file(tmp_path: Path) -> None:
    """Old bad rows do not outlive the file they came from."""
    with pytest.raises(SpanRefusedError):
        read(csv(tmp_path, b"carrier,distance,late\nUA,far,0\n"))
    read(csv(tmp_path, GOOD))
    assert not (tmp_path / "quarantine" / "2013-01.jsonl").exists()


def test_a_file_that_went_away_is_refused_not_crashed_on(tmp_path: Path) -> None:
    """The file may be deleted between its landing and its run."""
    with pytest.raises(SpanRefusedError, match="cannot be read"):
        read(tmp_path / "2013-01.csv")


def parquet(folder: Path, **columns: Any) -> Path:
    """A Parquet span of these columns."""
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
        ({"carrier": ["UA"], "distance": ["1"], "late": [0]}, 'column "distance" is string, float32 was agreed'),
        ({"carrier": ["UA"], "distance": [1.0], "late": [0.5]}, 'column "late" is double'),
        ({"carrier": ["UA"], "distance": [float("nan")], "late": [0]}, "row 1"),
        ({"carrier": ["UA", None], "distance": [1.0, 1.0], "late": [0, 0]}, "row 2"),
        ({"carrier": ["UA"], "distance": [1e39], "late": [0]}, "not a finite number of 32 bits"),
        ({"carrier": ["UA"], "distance": [1.0], "late": pa.array([2**63], pa.uint64())}, 'column "late" is uint64'),
        (
            {"carrier": ["UA"], "distance": [1.0], "late": pa.array([0], pa.timestamp("s"))},
            'column "late" is timestamp',
        ),
        ({"carrier": [7], "distance": [1.0], "late": [0]}, 'column "carrier" is int64'),
        ({"carrier": [["UA"]], "distance": [1.0], "late": [0]}, 'column "carrier" is list'),
        (
            {"carrier": ["UA", "A\0A"], "distance": [1.0, 1.0], "late": [0, 0]},
            'row 2, column "carrier": holds a NUL byte',
        ),
        ({"carrier": ["UA", "AA"], "distance": [1.0, 1.0], "late": pa.nulls(2)}, 'row 1, column "late": has no value'),
        ({"carrier": pa.array([b"UA", b"\xff"]), "distance": [1.0, 1.0], "late": [0, 0]}, "is not UTF-8"),
        ({" ": ["UA"], "carrier": ["UA"], "distance": [1.0], "late": [0]}, "column 1 of its header has no name"),
        ({"carrier": [], "distance": [], "late": []}, "it has no rows"),
    ],
)
def test_a_bad_parquet_is_refused_with_the_reason(tmp_path: Path, columns: dict[str, Any], reason: str) -> None:
    """Names, types, missing and non-finite values are checked like a CSV's."""
    path = parquet(tmp_path, **columns)
    with pytest.raises(SpanRefusedError) as refused:
        read(path)
    assert reason in str(refused.value)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_parquet_is_refused(tmp_path: Path, keep: int) -> None:
    """A file cut anywhere is not a whole Parquet file."""
    path = parquet(tmp_path, carrier=pa.array(["UA"]), distance=pa.array([1.0]), late=pa.array([0]))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SpanRefusedError, match=r"empty|not a whole Parquet"):
        read(path)


def test_a_parquet_whose_data_is_damaged_is_refused(tmp_path: Path) -> None:
    """Footer and magic are whole, a page in the middle is not."""
    names = pa.array([f"carrier {number}" for number in range(5000)])
    path = parquet(tmp_path, carrier=names, distance=pa.array([1.0] * 5000), late=pa.array([0] * 5000))
    content = bytearray(path.read_bytes())
    content[4:2000] = b"\xff" * 1996
    path.write_bytes(content)
    with pytest.raises(SpanRefusedError, match="not a whole Parquet"):
        read(path)


def test_duplicate_names_in_a_parquet_are_refused(tmp_path: Path) -> None:
    """Arrow can write two columns of one name; which one is meant cannot be known."""
    path = tmp_path / "2013-01.parquet"
    pq.write_table(pa.table([["UA"], ["AA"], [1.0], [0]], names=["carrier", "carrier", "distance", "late"]), path)
    with pytest.raises(SpanRefusedError, match='names "carrier" more than once'):
        read(path)


def test_exactly_the_bad_rows_of_a_parquet_are_quarantined(tmp_path: Path) -> None:
    """Row numbers count from 1, and the quarantine file holds the values, also those that are not UTF-8."""
    path = parquet(
        tmp_path,
        carrier=pa.array([b"UA", b"\xff", b"AA", b"DL"]),
        distance=pa.array([1.0, 2.0, float("inf"), None]),
        late=pa.array([0, 1, 0, 1]),
    )
    span = read(path, max_bad_rows=2)
    assert span.table.to_pylist() == [
        {"carrier": "UA", "distance": 1.0, "late": 0},
        {"carrier": "DL", "distance": None, "late": 1},
    ]
    rows = quarantined(tmp_path)
    assert [(row["row"], row["column"]) for row in rows] == [(2, "carrier"), (3, "distance")]
    assert json.loads(str(rows[0]["raw"])) == {"carrier": "\\xff", "distance": 2.0, "late": 1}


def test_timestamps_of_a_parquet_become_iso_8601_text_in_utc(tmp_path: Path) -> None:
    """A window's time column may be a timestamp; the text is the same as a CSV would hold."""
    path = tmp_path / "2013-01.parquet"
    moment = pa.array([1357034400_000_000_000], pa.timestamp("ns", "America/New_York"))
    pq.write_table(pa.table({"at": moment}), path)
    columns = (Column("at", ColumnType.STRING, required=True),)
    span = read(path, 0, columns)
    assert span.table["at"].to_pylist() == ["2013-01-01T10:00:00Z"]


def test_bad_rows_of_a_parquet_are_numbered_through_all_its_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers and rows are those of the file, whatever the size of a batch; the schema's range is checked too."""
    monkeypatch.setattr(parquet_span, "ROWS_A_BATCH", 3)
    distances = [1.0, 2.0, 3.0, 4.0, -0.1, 6.0, 7.0, 8.0, float("nan"), 10.0]
    path = parquet(tmp_path, carrier=["UA"] * 10, distance=distances, late=[0] * 10)
    columns = (COLUMNS[0], Column("distance", ColumnType.FLOAT, required=True, minimum=0), COLUMNS[2])
    span = read(path, 2, columns)
    assert span.table["distance"].to_pylist() == [1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 10.0]
    assert [(row["row"], row["reason"]) for row in quarantined(tmp_path)] == [
        (5, "is -0.1, below the schema's minimum of 0"),
        (9, "is not a finite number of 32 bits"),
    ]


@pytest.mark.parametrize("minimum", [5, -(2**63)])
def test_the_range_of_whole_numbers_is_exact(tmp_path: Path, minimum: int) -> None:
    """Also where a float could not tell two of them apart."""
    columns = (Column("late", ColumnType.INT, required=True, minimum=minimum, maximum=2**62 + 1),)
    content = f"late\n{minimum}\n{2**62 + 1}\n{2**62 + 2}\n"
    span = read(csv(tmp_path, content.encode()), 1, columns)
    assert span.table["late"].to_pylist() == [minimum, 2**62 + 1]
    assert quarantined(tmp_path)[0]["reason"] == f"is {2**62 + 2}, above the schema's maximum of {2**62 + 1}"


def test_a_span_is_refused_as_soon_as_that_is_certain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands millions of rows behind does not have to be read: here a quote that would refuse the span otherwise."""
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 1000)
    path = csv(tmp_path, GOOD + b"UA,far,0\n" + b"UA,1,0\n" * 1000 + b'"UA,1,0\n')
    with pytest.raises(SpanRefusedError, match=r"line 4, column \"distance\": 'far' is not a number in the first"):
        read(path)
    with pytest.raises(SpanRefusedError, match="line 1005: a quote is opened there and never closed"):
        read(path, max_bad_rows=1)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_memory_holds_a_few_blocks_whatever_the_size_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Arrow's memory while a file of 20 MB is read in blocks of 64 kB, of a Parquet file with one row group."""
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(parquet_span, "ROWS_A_BATCH", 1 << 12)
    rows = 500_000
    table = pa.table({"carrier": [f"{row:032}" for row in range(rows)], "distance": [1.5] * rows, "late": [0] * rows})
    path = tmp_path / f"2013-01.{ending}"
    if ending == "csv":
        pa_csv.write_csv(table, path)
    else:
        pq.write_table(table, path, row_group_size=rows, use_dictionary=False, compression="none")
    del table
    before, peak, seen = pa.total_allocated_bytes(), 0, 0
    with read_span(SpanFile("span", path), ending, COLUMNS, max_bad_rows=0, quarantine_to=tmp_path) as stream:
        for batch in stream:
            seen += batch.num_rows
            peak = max(peak, pa.total_allocated_bytes() - before)
    assert seen == rows
    assert path.stat().st_size > 20_000_000
    assert peak < 8_000_000
