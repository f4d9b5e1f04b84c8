"""Malformed CSV files, each by name, with the answer a careful engineer expects: refuse, leave out these lines, or accept."""

from __future__ import annotations

import gzip
import io
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ct.errors import SpanRefusedError
from ct.sources import csv_blocks, csv_span
from ct.sources.reader import Column, ColumnType, SpanFile, read_span

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = (
    Column("carrier", ColumnType.STRING, required=True),
    Column("distance", ColumnType.FLOAT, required=False, minimum=0, maximum=5000),
    Column("late", ColumnType.INT, required=True),
)
HEADER = b"carrier,distance,late\n"
FIRST, SECOND = ("UA", 1.5, 0), ("AA", 2.0, 1)
GOOD = HEADER + b"UA,1.5,0\nAA,2,1\n"
ALLOWED = 3
DECIDES = "; schema.pbtxt decides which columns a span has"
NO_NAMES = f'its header lacks "carrier", "distance", "late"{DECIDES}'
LOST = "; the rows from there on cannot be told apart"
NO_VALUE = "has no value, and the schema asks for one"


@dataclass(frozen=True)
class Accept:
    """All rows are good."""

    rows: list[tuple[Any, ...]]


@dataclass(frozen=True)
class LeaveOut:
    """Exactly these rows are quarantined: (line, column, reason); the others are read."""

    bad: list[tuple[int, str | None, str]]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True)
class Refuse:
    """The span is not used; the reason, to the letter but for where the quarantine file is."""

    reason: str


def bad_second(column: str | None, reason: str) -> LeaveOut:
    """Line 3 is left out, line 2 is read."""
    return LeaveOut([(3, column, reason)], [FIRST])


def parquet_bytes() -> bytes:
    """A whole Parquet file."""
    file = io.BytesIO()
    pq.write_table(pa.table({"carrier": ["UA"], "distance": [1.0], "late": [0]}), file)
    return file.getvalue()


def with_second(line: str | bytes) -> bytes:
    """A good row, and this line behind it."""
    return HEADER + b"UA,1.5,0\n" + (line.encode() if isinstance(line, str) else line) + b"\n"


CASES: dict[str, tuple[bytes, Accept | LeaveOut | Refuse]] = {
    # the file as a whole
    "empty file": (b"", Refuse("the file is empty")),
    "byte order mark and nothing else": (b"\xef\xbb\xbf", Refuse(NO_NAMES)),
    "header only": (HEADER, Refuse("it has a header and no rows")),
    "header only, no line end": (HEADER[:-1], Refuse("it has a header and no rows")),
    "UTF-16": (GOOD.decode().encode("utf-16"), Refuse("it is no CSV in UTF-8 but UTF-16")),
    "UTF-16 without its mark": (GOOD.decode().encode("utf-16-le"), Refuse("its header holds a NUL byte")),
    "gzip bytes": (gzip.compress(GOOD, mtime=0), Refuse("it is no CSV in UTF-8 but gzip")),
    "Parquet bytes": (parquet_bytes(), Refuse("it is no CSV in UTF-8 but Parquet")),
    "a zip archive": (b"PK\x03\x04" + bytes(60), Refuse("it is no CSV in UTF-8 but a zip archive")),
    "an error page of a web server": (
        b"<html>502</html>\n",
        Refuse(f'its header lacks "carrier", "distance", "late" and has unknown "<html>502</html>"{DECIDES}'),
    ),
    "semicolons": (
        GOOD.replace(b",", b";"),
        Refuse("its header is one field, 'carrier;distance;late'; fields are separated by commas"),
    ),
    "tabs": (
        GOOD.replace(b",", b"\t"),
        Refuse("its header is one field, 'carrier\\tdistance\\tlate'; fields are separated by commas"),
    ),
    # the header
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, Accept([FIRST, SECOND])),
    "blank first line": (b"\n" + GOOD, Refuse(NO_NAMES)),
    "no header": (
        b"UA,1.5,0\nAA,2,1\n",
        Refuse(f'its header lacks "carrier", "distance", "late" and has unknown "UA", "1.5", "0"{DECIDES}'),
    ),
    "duplicated column": (b"carrier,distance,late,late\nUA,1,0,0\n", Refuse('its header names "late" more than once')),
    "renamed column": (
        GOOD.replace(b"distance", b"distanse"),
        Refuse(
            'its header lacks "distance" and has unknown "distanse" (is "distanse" meant to be "distance"?)' + DECIDES
        ),
    ),
    "space before a name": (
        GOOD.replace(b"distance", b" distance"),
        Refuse(
            'its header lacks "distance" and has unknown " distance" (is " distance" meant to be "distance"?)' + DECIDES
        ),
    ),
    "reordered columns": (b"late,carrier,distance\n0,UA,1.5\n1,AA,2\n", Accept([FIRST, SECOND])),
    "extra column": (b"carrier,distance,late,tail\nUA,1,0,N\n", Refuse(f'its header has unknown "tail"{DECIDES}')),
    "missing column": (b"carrier,late\nUA,0\n", Refuse(f'its header lacks "distance"{DECIDES}')),
    "trailing comma in every line": (
        b"carrier,distance,late,\nUA,1.5,0,\n",
        Refuse("column 4 of its header has no name"),
    ),
    # line ends and lines
    "line ends of Windows": (GOOD.replace(b"\n", b"\r\n"), Accept([FIRST, SECOND])),
    "line ends of the old Macintosh": (GOOD.replace(b"\n", b"\r"), Accept([FIRST, SECOND])),
    "mixed line ends": (b"carrier,distance,late\r\nUA,1.5,0\nAA,2,1\rUA,1.5,0\r\n", Accept([FIRST, SECOND, FIRST])),
    "blank lines": (
        HEADER + b"\nUA,1.5,0\n\n\nAA,2,1\n",
        LeaveOut([(line, None, "the line is empty") for line in (2, 4, 5)], [FIRST, SECOND]),
    ),
    "blank lines of Windows": (
        GOOD.replace(b"\n", b"\r\n") + b"\r\n",
        LeaveOut([(4, None, "the line is empty")], [FIRST, SECOND]),
    ),
    "a line of spaces": (with_second("   "), bad_second(None, "it has 1 field, the header has 3")),
    "cut last line": (
        with_second("AA,2,1")[:-1],
        bad_second(None, "the file ends within this line, so its last field may be cut"),
    ),
    "header again in the middle": (
        GOOD + GOOD,
        LeaveOut([(4, "distance", "'distance' is not a number")], [FIRST, SECOND, FIRST, SECOND]),
    ),
    "a second file with its mark behind the first": (
        GOOD + b"\xef\xbb\xbf" + GOOD,
        LeaveOut(
            [(4, "carrier", "begins with a byte order mark; was a second file appended to the first?")],
            [FIRST, SECOND, FIRST, SECOND],
        ),
    ),
    "trailing comma": (with_second("AA,2,1,"), bad_second(None, "it has 4 fields, the header has 3")),
    "short row": (with_second("AA,2"), bad_second(None, "it has 2 fields, the header has 3")),
    "long row": (with_second("AA,2,1,9"), bad_second(None, "it has 4 fields, the header has 3")),
    # quotes
    "lone quote at the beginning of a field": (
        with_second('"AA,2,1\nB6,3,0'),
        Refuse(f"line 3: a quote is opened there and never closed{LOST}"),
    ),
    "unclosed quote at the end": (
        with_second('AA,2,"1'),
        Refuse(f"line 3: a quote is opened there and never closed{LOST}"),
    ),
    "text behind a closing quote": (with_second('"A"A,2,1'), Refuse(f"line 3: ',' expected after '\"'{LOST}")),
    "quote within a field": (with_second('A"A,2,1'), Accept([FIRST, ('A"A', 2.0, 1)])),
    "doubled quotes": (with_second('"""A""A",2,1'), Accept([FIRST, ('"A"A', 2.0, 1)])),
    "line ends within quotes": (
        with_second('"A\nA\r\n",2,1\nB6,x,0'),
        LeaveOut([(6, "distance", "'x' is not a number")], [FIRST, ("A\nA\r\n", 2.0, 1)]),
    ),
    "quoted numbers": (with_second('"AA","2","1"'), Accept([FIRST, SECOND])),
    "empty quotes": (HEADER + b'UA,"",0\n"",2,1\n', LeaveOut([(3, "carrier", NO_VALUE)], [("UA", None, 0)])),
    # bytes
    "a byte of latin-1": (with_second(b"A\xe9,2,1"), bad_second("carrier", "is not UTF-8")),
    "NUL": (with_second("A\0A,2,1"), bad_second("carrier", "holds a NUL byte")),
    "a very long field": (
        with_second("A" * 131_073 + ",2,1"),
        Refuse(f"line 3: a field of more than 131,072 characters, or a quote that is never closed{LOST}"),
    ),
    "the longest field": (with_second("A" * 131_072 + ",2,1"), Accept([FIRST, ("A" * 131_072, 2.0, 1)])),
    # numbers
    "missing where a value is asked for": (
        with_second(",2,1\nAA,2,"),
        LeaveOut([(3, "carrier", NO_VALUE), (4, "late", NO_VALUE)], [FIRST]),
    ),
    "missing where none is asked for": (with_second("AA,,1"), Accept([FIRST, ("AA", None, 1)])),
    "whitespace around numbers": (with_second("AA, 2 ,\t1"), Accept([FIRST, SECOND])),
    "whitespace around text": (with_second(" AA ,2,1"), Accept([FIRST, (" AA ", 2.0, 1)])),
    "1e400": (with_second("AA,1e400,1"), bad_second("distance", "'1e400' is not a finite number of 32 bits")),
    "1e39": (with_second("AA,1e39,1"), bad_second("distance", "'1e39' is not a finite number of 32 bits")),
    "NaN": (with_second("AA,NaN,1"), bad_second("distance", "'NaN' is not a finite number of 32 bits")),
    "inf": (with_second("AA,-inf,1"), bad_second("distance", "'-inf' is not a finite number of 32 bits")),
    "NULL as a word": (with_second("AA,NULL,1"), bad_second("distance", "'NULL' is not a number")),
    "0x1F": (with_second("AA,2,0x1F"), bad_second("late", "'0x1F' is not a whole number")),
    "0x1F as text": (with_second("0x1F,2,1"), Accept([FIRST, ("0x1F", 2.0, 1)])),
    "1_000": (with_second("AA,1_000,1"), bad_second("distance", "'1_000' is not a number")),
    "thousands separator": (with_second('AA,"1,000",1'), bad_second("distance", "'1,000' is not a number")),
    "decimal comma": (with_second('AA,"1,5",1'), bad_second("distance", "'1,5' is not a number")),
    "decimal comma without quotes": (with_second("AA,1,5,1"), bad_second(None, "it has 4 fields, the header has 3")),
    "currency": (with_second("AA,€5,1"), bad_second("distance", "'€5' is not a number")),
    "digits of another script": (with_second("AA,٢,1"), bad_second("distance", "'٢' is not a number")),
    "int overflow": (
        with_second("AA,2,9223372036854775808"),
        bad_second("late", "'9223372036854775808' does not fit in 64 bits"),
    ),
    "float in an int column": (with_second("AA,2,1.0"), bad_second("late", "'1.0' is not a whole number")),
    "exponent in an int column": (with_second("AA,2,1e0"), bad_second("late", "'1e0' is not a whole number")),
    "a word of truth in an int column": (with_second("AA,2,true"), bad_second("late", "'true' is not a whole number")),
    "a date in an int column": (
        with_second("AA,2,2013-01-01"),
        bad_second("late", "'2013-01-01' is not a whole number"),
    ),
    "dates of any format as text": (with_second("01/02/2013,2,1"), Accept([FIRST, ("01/02/2013", 2.0, 1)])),
    "below the schema's range": (
        with_second("AA,-3,1"),
        bad_second("distance", "is -3, below the schema's minimum of 0"),
    ),
    "above the schema's range": (
        with_second("AA,5000.5,1"),
        bad_second("distance", "is 5000.5, above the schema's maximum of 5000"),
    ),
    "at the ends of the schema's range": (HEADER + b"UA,0,0\nAA,5e3,1\n", Accept([("UA", 0.0, 0), ("AA", 5000.0, 1)])),
    # limits
    "one bad row too many": (
        with_second("AA,far,1\n" * 3 + "AA,far,1"),
        Refuse(
            "line 3, column \"distance\": 'far' is not a number and 3 more bad rows in the first 5 rows; "
            "3 allowed (source.max_bad_rows). See "
        ),
    ),
    "no good row": (
        HEADER + b"AA,far,1\n",
        Refuse(
            "line 2, column \"distance\": 'far' is not a number, so no row is good; 3 allowed (source.max_bad_rows). See "
        ),
    ),
}


def answer(folder: Path, content: bytes) -> Accept | LeaveOut | Refuse:
    """What the reader makes of a file of these bytes."""
    path, quarantine = folder / "span.csv", folder / "span.jsonl"
    path.write_bytes(content)
    try:
        with read_span(SpanFile("span", path), "csv", COLUMNS, max_bad_rows=ALLOWED, quarantine_to=folder) as stream:
            rows = [tuple(row.values()) for batch in stream for row in batch.to_pylist()]
    except SpanRefusedError as error:
        return Refuse(str(error.facts["reason"]).replace(str(quarantine), ""))
    assert stream.rows == len(rows)
    if not quarantine.exists():
        assert stream.quarantined == 0
        return Accept(rows)
    left_out = [json.loads(line) for line in quarantine.read_text(encoding="utf-8").splitlines()]
    assert stream.quarantined == len(left_out)
    return LeaveOut([(row["line"], row["column"], row["reason"]) for row in left_out], rows)


@pytest.mark.parametrize("block_bytes", [csv_blocks.BLOCK_BYTES, 64, 10, 1])
@pytest.mark.parametrize("name", CASES)
def test_each_malformed_csv_has_its_answer(
    name: str, block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same one wherever the blocks are cut, also within a row, a quoted field or the line end of Windows."""
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", block_bytes)
    content, expected = CASES[name]
    assert answer(tmp_path, content) == expected


def test_a_bad_row_at_a_block_boundary_costs_itself_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the last and as the first row of a block; lines are counted across blocks, those read by Arrow included."""
    row, bad = b"UA,1.5,0\n", b"UA,bad,0\n"
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 4 * len(row))
    content = HEADER + row * 7 + bad + bad + row * 7
    reason = "'bad' is not a number"
    assert answer(tmp_path, content) == LeaveOut([(9, "distance", reason), (10, "distance", reason)], [FIRST] * 14)


def test_a_line_end_in_quotes_may_stand_at_a_block_boundary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block ends before that row, whichever of its bytes the boundary would hit."""
    row, quoted = b"UA,1.5,0\n", b'"U\nA\n",1.5,0\n'
    content = HEADER + row * 3 + quoted + row * 3 + b"UA,bad,0\n"
    for block_bytes in range(len(row), len(content)):
        monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", block_bytes)
        assert answer(tmp_path, content) == LeaveOut(
            [(11, "distance", "'bad' is not a number")], [FIRST] * 3 + [("U\nA\n", 1.5, 0)] + [FIRST] * 3
        )


def test_only_the_block_of_a_bad_row_is_read_carefully(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad row in a million does not make the whole file slow."""
    row = b"UA,1.5,0\n"
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 100 * len(row) + 5)
    carefully: list[int] = []
    read_rows = csv_span.read_rows

    def count(lines: Any, *arguments: Any, **options: Any) -> Any:
        carefully.append(lines.line)
        return read_rows(lines, *arguments, **options)

    monkeypatch.setattr(csv_span, "read_rows", count)
    found = answer(tmp_path, HEADER + row * 550 + b"UA,bad,0\n" + row * 449)
    assert found == LeaveOut([(552, "distance", "'bad' is not a number")], [FIRST] * 999)
    assert carefully == [502]
    carefully.clear()
    assert answer(tmp_path, HEADER + b'"U\nA",1.5,0\n' * 999) == Accept([("U\nA", 1.5, 0)] * 999)
    assert carefully == []


def test_a_file_without_line_ends_is_refused_before_it_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line has a longest length, and no more than that is read."""
    monkeypatch.setattr("ct.sources.csv_lines.LONGEST_LINE", 1000)
    found = answer(tmp_path, HEADER + b"UA,1.5,0," * 1000)
    assert found == Refuse("line 2 has more than 1,000 characters")


def test_reading_in_blocks_gives_what_reading_row_by_row_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On hundreds of odd files, cut into blocks of any size: the same rows, the same bad rows, the same refusals."""
    odd = ["", '"', '""', "\r", "\n", " ", "+5", "0x1", "nan", "é", "\0", "9" * 19, 'x"y', "1e-50", "-1", "\ufeff"]
    fast, read_fast = 0, csv_span._read_fast
    chance = random.Random(1)  # noqa: S311  no secret

    def counted(*arguments: Any) -> Any:
        nonlocal fast
        found = read_fast(*arguments)
        fast += found is not None
        return found

    for _ in range(800):
        rows = (
            [chance.choice(["UA", '"U, A"', '"l\n2"', "B"]), chance.choice(["1.5", "", "1e3"]), "1"]
            for _ in range(chance.randint(1, 8))
        )
        lines = [",".join(chance.choice(odd) if chance.random() < 0.04 else field for field in row) for row in rows]
        end = chance.choice(["\n", "\r\n", "\r"])
        content = ("carrier,distance,late" + end + "".join(line + end for line in lines)).encode()
        monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 1 << 20)
        monkeypatch.setattr(csv_span, "_read_fast", lambda *_: None)
        expected = answer(tmp_path, content)
        monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", chance.choice([12, 20, 40, 1 << 20]))
        monkeypatch.setattr(csv_span, "_read_fast", counted)
        found = answer(tmp_path, content)
        if isinstance(expected, Refuse) and isinstance(found, Refuse):
            assert found.reason.partition(" in the first ")[0] == expected.reason.partition(" in the first ")[0], (
                content
            )
        else:
            assert found == expected, content
    assert fast > 500
