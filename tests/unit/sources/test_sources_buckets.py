"""Time buckets: names that sort as times do, and no gap or overlap between two of them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import get_args

import pytest

from ct.source_config import TimeSpan
from ct.sources.buckets import bucket_end, bucket_name, bucket_start, buckets_before

UNITS: tuple[TimeSpan, ...] = get_args(TimeSpan)
NEW_YEAR = {"hour": "2013-01-01T00", "day": "2013-01-01", "week": "2013-W01", "month": "2013-01"}


@pytest.mark.parametrize("unit", UNITS)
def test_each_bucket_ends_where_the_next_begins(unit: TimeSpan) -> None:
    """Over two years with a leap day and a year of 53 weeks, names go on rising and say their own start."""
    start = bucket_start(bucket_name(datetime(2019, 12, 25, tzinfo=timezone.utc), unit), unit)
    assert start is not None
    names = []
    while start < datetime(2021, 1, 20, tzinfo=timezone.utc):
        names.append(bucket_name(start, unit))
        assert bucket_start(names[-1], unit) == start
        end = bucket_end(start, unit)
        assert bucket_name(end - timedelta(microseconds=1), unit) == names[-1]
        start = end
    assert names == sorted(set(names))


@pytest.mark.parametrize("unit", UNITS)
def test_counting_back_undoes_going_on(unit: TimeSpan) -> None:
    """Three buckets on and three back is where it began; none before the calendar begins."""
    begin = bucket_start(NEW_YEAR[unit], unit)
    assert begin is not None
    later = bucket_end(bucket_end(bucket_end(begin, unit), unit), unit)
    assert buckets_before(later, unit, 3) == begin
    assert buckets_before(later, unit, 0) == later
    assert buckets_before(datetime(1, 1, 8, tzinfo=timezone.utc), unit, 5) == datetime(1, 1, 8, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "name", ["", "flights", "2013", "2013-13", "2013-02-30", "2013-W54", "2013-01-01T24", "2013-01\n"]
)
@pytest.mark.parametrize("unit", UNITS)
def test_what_is_no_bucket_has_no_start(name: str, unit: TimeSpan) -> None:
    """Such as the name of a span that came from another source."""
    assert bucket_start(name, unit) is None
