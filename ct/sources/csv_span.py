"""CSV as a span, block by block: Arrow's parser where a block is plainly well formed, row by row where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from ct.sources.careful import not_text, read_rows
from ct.sources.columns import ColumnType, check_names
from ct.sources.csv_blocks import read_block
from ct.sources.csv_lines import BYTE_ORDER_MARK, LONGEST_MAGIC, OTHER_KINDS, Lines, records
from ct.sources.suspects import suspects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ct.sources.columns import Column
    from ct.sources.csv_blocks import Block
    from ct.sources.quarantine import BadRows
    from ct.sources.span_file import SpanFile

READ_QUIETLY_BY_ARROW = (b"\n\n", b"\n\r", b"\r\r", b"\0", BYTE_ORDER_MARK)
"""Empty lines, which become rows of nulls, NUL, and the mark of a file that was appended to another: Arrow says no word."""
LONGEST_FIELD_BYTES = 131_072
"""The limit of Python's csv module, in characters; what is longer is left to it, so that both ways give one answer."""


def read_csv(span: SpanFile, columns: Sequence[Column], bad: BadRows) -> Iterator[pa.RecordBatch]:
    """The good rows of a CSV file that is not empty; the others go to `bad`.

    Raises:
        SpanRefusedError: the header is not as agreed, or rows cannot be told apart.
        OSError: the file cannot be read.
    """
    with span.path.open("rb") as file:
        header, at, line = _read_header(span, file)
        check_names(span, header, columns)
        if at == span.path.stat().st_size:
            raise span.refused("it has a header and no rows")
        while block := read_block(file, at):
            fast = _read_fast(block, header, columns)
            if fast is not None:
                at, line = at + len(block.content), line + block.lines
                yield from fast
                continue
            lines = Lines(file, span, at=at, line=line)
            yield from read_rows(lines, span, header, columns, bad, to=at + len(block.content))
            at, line = lines.at, lines.line
            lines.close()


def _read_header(span: SpanFile, file: BinaryIO) -> tuple[list[str], int, int]:
    """The names in the first record, and the byte and the line where the next one begins."""
    start = file.read(LONGEST_MAGIC)
    kind = next((kind for magic, kind in OTHER_KINDS.items() if start.startswith(magic)), None)
    if kind:
        raise span.refused(f"it is no CSV in UTF-8 but {kind}")
    lines = Lines(file, span, at=len(BYTE_ORDER_MARK) if start.startswith(BYTE_ORDER_MARK) else 0)
    _, header = next(records(lines, span, is_header=True), (1, []))
    lines.close()
    problem = not_text("".join(header))
    if problem:
        raise span.refused(f"its header {problem}")
    return header, lines.at, lines.line


def _read_fast(block: Block, header: Sequence[str], columns: Sequence[Column]) -> list[pa.RecordBatch] | None:
    """The block's rows, or None when anything about the block or its values needs a closer look."""
    content = block.content
    if (
        not block.is_whole
        or content.startswith((b"\n", b"\r"))
        or any(odd in content for odd in READ_QUIETLY_BY_ARROW)
        or not block.is_regular
    ):
        return None
    kinds = {column.name: column.type.arrow for column in columns}
    try:
        batches = _parsed(block, header, kinds)
        if (b"0x" in content or b"0X" in content) and _has_hexadecimals(block, header, columns):
            return None
    except pa.ArrowException:
        return None
    if any(suspects(batch, columns) or _has_long_field(batch) for batch in batches):
        return None
    return batches


def _parsed(block: Block, header: Sequence[str], kinds: dict[str, pa.DataType]) -> list[pa.RecordBatch]:
    # Not read_csv: it looks for a reference cycle among all objects of the process, which takes seconds where TFX is loaded.
    with pa_csv.open_csv(
        pa.BufferReader(block.content),
        read_options=pa_csv.ReadOptions(column_names=header, block_size=len(block.content) + 1, use_threads=False),
        parse_options=pa_csv.ParseOptions(newlines_in_values=len(block.quotes) > 0, ignore_empty_lines=False),
        convert_options=pa_csv.ConvertOptions(
            column_types=kinds,
            include_columns=list(kinds),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    ) as reader:
        return list(reader)


def _has_hexadecimals(block: Block, header: Sequence[str], columns: Sequence[Column]) -> bool:
    """Whether a whole number is written as 0x1F, which Arrow takes without a word; a text may be."""
    texts = {column.name: pa.string() for column in columns if column.type is ColumnType.INT}
    batches = _parsed(block, header, texts) if texts else []
    return any(
        pc.any(pc.match_substring(values, "x", ignore_case=True)).as_py()
        for batch in batches
        for values in batch.columns
    )


def _has_long_field(batch: pa.RecordBatch) -> bool:
    texts = (values for values in batch.columns if pa.types.is_string(values.type))
    return any((pc.max(pc.binary_length(values)).as_py() or 0) > LONGEST_FIELD_BYTES for values in texts)
