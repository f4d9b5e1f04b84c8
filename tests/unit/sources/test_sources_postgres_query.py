"""The SQL of a PostgreSQL source, as text; tests/integration/sources runs it."""

from __future__ import annotations

import pytest

from ct.sources.postgres_query import BucketQuery, ColumnOf, number_name, quoted


def query(kind: str, span: str | int) -> BucketQuery:
    """A query over a watermark of this type."""
    return BucketQuery('"flights"', ColumnOf("at", kind), span, "xmin")  # type: ignore[arg-type]


def test_a_name_is_quoted_whatever_it_holds() -> None:
    """A quote inside cannot end it."""
    assert quoted('a"; DROP TABLE b; --') == '"a""; DROP TABLE b; --"'


@pytest.mark.parametrize(
    ("kind", "span", "name", "bounds"),
    [
        (
            "timestamptz",
            "day",
            "2013-01-31",
            ("timestamptz '2013-01-31 00:00:00+00'", "timestamptz '2013-02-01 00:00:00+00'"),
        ),
        ("timestamp", "hour", "2013-01-01T23", ("timestamp '2013-01-01 23:00:00'", "timestamp '2013-01-02 00:00:00'")),
        ("date", "month", "2012-12", ("timestamp '2012-12-01 00:00:00'", "timestamp '2013-01-01 00:00:00'")),
        ("int8", 1000, number_name(2000), ("2000", "3000")),
    ],
)
def test_a_bucket_is_half_open(kind: str, span: str | int, name: str, bounds: tuple[str, str]) -> None:
    """A row at the very end belongs to the next one."""
    assert query(kind, span).facts(name).endswith(f'"at" >= {bounds[0]} AND "at" < {bounds[1]}')


def test_a_text_that_is_no_bucket_never_becomes_sql() -> None:
    """Names come from our own look; anything else is refused."""
    with pytest.raises(ValueError, match="is no day"):
        query("date", "day").facts("2013-01-01'; DROP TABLE flights; --")
    with pytest.raises(ValueError, match="invalid literal"):
        query("int8", 10).facts("1; DROP TABLE flights")


@pytest.mark.parametrize(
    ("span", "since", "revisit", "first"),
    [
        ("day", "2013-01-02", 3, "2012-12-30"),
        ("month", "2013-03", 0, "2013-03"),
        ("day", "flights-2013-01", 3, None),
        (1000, number_name(5000), 3, number_name(2000)),
        (1000, number_name(1000), 3, number_name(0)),
        (1000, "2013-01", 3, None),
    ],
)
def test_a_look_begins_some_buckets_before_the_newest_span(
    span: str | int, since: str, revisit: int, first: str | None
) -> None:
    """Or at the beginning when that span came from another source."""
    assert query("int8", span).first_revisited(since, revisit) == first


@pytest.mark.parametrize(
    ("column", "selected"),
    [
        (ColumnOf("n", "numeric"), '"n"::float8 AS "n"'),
        (ColumnOf("n", "numeric", (18 << 16) + 4), '"n"::int8 AS "n"'),
        (ColumnOf("n", "numeric", (19 << 16) + 4), '"n"::float8 AS "n"'),
        (ColumnOf("n", "numeric", (10 << 16) + 2 + 4), '"n"::float8 AS "n"'),
        (ColumnOf("n", "int4"), '"n"'),
        (ColumnOf("n", "json"), '"n"::text AS "n"'),
        (ColumnOf("n", "_int4"), '"n"::text AS "n"'),
    ],
)
def test_types_that_arrow_does_not_know_become_numbers_or_text(column: ColumnOf, selected: str) -> None:
    """numeric(p, 0) of up to 18 digits is a whole number."""
    assert column.selected == selected
