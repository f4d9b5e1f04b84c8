"""Patterns: which paths are spans, and what they are called."""

from __future__ import annotations

import pytest

from ct.sources.patterns import format_of, is_match, span_name


@pytest.mark.parametrize(
    ("pattern", "path", "name"),
    [
        ("*.csv", "2013-01.csv", "2013-01"),
        ("flights-*.csv", "flights-2013-01.csv", "flights-2013-01"),
        ("*.tfrecord.gz", "2013-01.tfrecord.gz", "2013-01"),
        ("*/data.parquet", "2013-01/data.parquet", "2013-01"),
        ("date=*/part.parquet", "date=2013-01-05/part.parquet", "date=2013-01-05"),
        ("*/*.csv", "2013-01/jfk.csv", "2013-01-jfk"),
        ("v1/*/*/all.csv", "v1/2013/01/all.csv", "2013-01"),
        ("20[0-9][0-9].csv", "2013.csv", "2013"),
        ("samples/flights.csv", "samples/flights.csv", "flights"),
    ],
)
def test_the_parts_with_wildcards_name_the_span(pattern: str, path: str, name: str) -> None:
    """Without the ending, joined by a dash."""
    assert is_match(path, pattern)
    assert span_name(path, pattern) == name


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.csv", "2013/01.csv"),
        ("*/data.csv", "data.csv"),
        ("*/data.csv", "a/b/data.csv"),
        ("*.csv", ".hidden.csv"),
        ("*/data.csv", ".cache/data.csv"),
        ("*.csv", "2013-01.CSV"),
        ("*.tfrecord", "a.tfrecord.gz"),
    ],
)
def test_other_paths_are_none(pattern: str, path: str) -> None:
    """A wildcard never spans folders; hidden names and other cases never match."""
    assert not is_match(path, pattern)


@pytest.mark.parametrize(
    ("pattern", "format_name"),
    [("*.csv", "csv"), ("*.parquet", "parquet"), ("*.tfrecord", "tfrecord"), ("*.tfrecord.gz", "tfrecord")],
)
def test_the_ending_says_the_format(pattern: str, format_name: str) -> None:
    """Compressed or not."""
    assert format_of(pattern) == format_name
