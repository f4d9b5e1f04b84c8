"""Cassandra's partition keys as spans; tests/integration/sources reads real rows."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from ct.sources.cassandra_rows import span_of

if TYPE_CHECKING:
    from ct.source_config import TimeSpan

NINE = datetime(2013, 1, 5, 9)  # noqa: DTZ001  as the driver gives it: UTC, without a zone


@pytest.mark.parametrize(
    ("value", "span", "name"),
    [
        ("2013-01-05", "day", "2013-01-05"),
        ("2013-01-05", "month", "2013-01"),
        ("2013-01-05T09", "day", "2013-01-05"),
        ("2013-W01", "week", "2013-W01"),
        ("2013-01-05", "week", "2013-W01"),
        (20130105, "day", "2013-01-05"),
        (2013010509, "hour", "2013-01-05T09"),
        (201301, "month", "2013-01"),
        (NINE, "hour", "2013-01-05T09"),
        (NINE, "day", "2013-01-05"),
        ("2013-01", "day", None),
        (201301, "day", None),
        ("soon", "day", None),
        (20131305, "day", None),
        (-20130105, "day", None),
        (7, None, "0000000000000000007"),
        (-7, None, None),
        ("batch-7", None, "batch-7"),
        ("a/b", None, None),
        ("", None, None),
    ],
)
def test_a_bucket_value_names_its_span(value: Any, span: TimeSpan | None, name: str | None) -> None:
    """A span may be wider than a bucket, never narrower; what names none belongs to none."""
    assert span_of(value, span) == name


def test_numbered_buckets_sort_as_numbers() -> None:
    """9 before 10."""
    assert sorted([span_of(10, None), span_of(9, None)], key=str) == [span_of(9, None), span_of(10, None)]
