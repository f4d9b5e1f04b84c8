"""Time buckets of rows: their names, where each begins and ends. All times are UTC."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ct.source_config import TimeSpan

UTC: Final = timezone.utc
DAY = timedelta(days=1)
NO_SPAN: Final = "(none)"
"""Stands for a name where rows are told that belong to no span."""

NAMES: dict[TimeSpan, re.Pattern[str]] = {
    "hour": re.compile(r"(\d{4})-(\d{2})-(\d{2})T(\d{2})"),
    "day": re.compile(r"(\d{4})-(\d{2})-(\d{2})"),
    "week": re.compile(r"(\d{4})-W(\d{2})"),
    "month": re.compile(r"(\d{4})-(\d{2})"),
}


def bucket_name(start: datetime, span: TimeSpan) -> str:
    """`2013-01-05T07`, `2013-01-05`, `2013-W01` or `2013-01`; names sort as the times do."""
    if span == "week":
        year, week, _ = start.isocalendar()
        return f"{year:04d}-W{week:02d}"
    return start.isoformat()[: {"hour": 13, "day": 10, "month": 7}[span]]


def bucket_start(name: str, span: TimeSpan) -> datetime | None:
    """Where the bucket of this name begins, or None when it is no such name."""
    match = NAMES[span].fullmatch(name)
    if match is None:
        return None
    numbers = [int(group) for group in match.groups()]
    try:
        if span == "week":
            return datetime.fromisocalendar(numbers[0], numbers[1], 1).replace(tzinfo=UTC)
        year, month, *rest = numbers
        day, hour = [*rest, *(1, 0)[len(rest) :]]
        return datetime(year, month, day, hour, tzinfo=UTC)
    except ValueError:
        return None


def bucket_end(start: datetime, span: TimeSpan) -> datetime:
    """Where the next bucket begins."""
    if span == "month":
        return (start.replace(day=1) + 31 * DAY).replace(day=1)
    return start + {"hour": timedelta(hours=1), "day": DAY, "week": 7 * DAY}[span]


def fills(name: str, span: TimeSpan, *, lateness_s: float, now: float) -> tuple[str, float] | None:
    """Why the bucket of this name is not closed yet, and for how many seconds; None when it is.

    Args:
        name: a bucket's.
        span: what the bucket is.
        lateness_s: how long after its end it is closed.
        now: Unix seconds.
    """
    start = bucket_start(name, span)
    if start is None:
        raise ValueError(f"{name} is no {span}")
    closes = bucket_end(start, span).timestamp() + lateness_s
    if closes <= now:
        return None
    until = datetime.fromtimestamp(closes, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"it fills until {until}", closes - now


def buckets_before(start: datetime, span: TimeSpan, count: int) -> datetime:
    """The start of the bucket `count` buckets earlier; no earlier than the year 1."""
    for _ in range(count):
        if start <= datetime(1, 1, 8, tzinfo=UTC):
            return start
        start = _containing(start - timedelta(hours=1), span)
    return start


def _containing(time: datetime, span: TimeSpan) -> datetime:
    """The start of the bucket that a time lies in."""
    start = bucket_start(bucket_name(time, span), span)
    if start is None:
        raise ValueError(f"{time} has no {span}")
    return start
