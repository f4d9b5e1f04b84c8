"""When waiting spans become a run."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import product

import pytest

from ct.config import TriggerConfig
from ct.triggers.coalescing import BACKOFF, TRIES, Due, LastRun, Wait, WaitingFor, WaitingSpan, decide

NOW = datetime(2013, 1, 1, 12, tzinfo=timezone.utc)


def ago(seconds: float) -> datetime:
    """A moment before now."""
    return NOW - timedelta(seconds=seconds)


def span(seconds: float = 0, rows: int | None = 100, *, had_run: bool = False) -> WaitingSpan:
    """A span that was seen so long ago."""
    return WaitingSpan(ago(seconds), rows, had_run)


def run(ended: float | None, *, began: float = 100, failures: int = 0) -> LastRun:
    """The last run."""
    return LastRun("p-1", ago(began), None if ended is None else ago(ended), failures)


def waits(*spans: WaitingSpan, last: LastRun | None = None, **settings: float) -> Wait:
    """A decision that must be to wait."""
    found = decide(spans, last, NOW, TriggerConfig.model_validate(settings))
    assert isinstance(found, Wait), found
    return found


def is_due(*spans: WaitingSpan, last: LastRun | None = None, **settings: float) -> bool:
    """Whether a run may take them now."""
    return decide(spans, last, NOW, TriggerConfig.model_validate(settings)) == Due()


def test_without_settings_a_span_is_due_at_once() -> None:
    """Freshness is the default."""
    assert is_due(span())
    assert is_due(span(), last=run(ended=0))


def test_nothing_waits_for_nothing() -> None:
    """No span, no run."""
    assert waits().what is WaitingFor.NOTHING


def test_a_cooldown_counts_from_the_end_of_the_last_run() -> None:
    """Not a moment longer, and not before the first run."""
    assert waits(span(), last=run(ended=59), cooldown_s=60).until == NOW + timedelta(seconds=1)
    assert is_due(span(), last=run(ended=60), cooldown_s=60)
    assert is_due(span(), cooldown_s=60)


def test_rows_of_all_waiting_spans_count_together() -> None:
    """`min_new_rows` is about the union that a run would take."""
    assert waits(span(rows=40), span(rows=59), min_new_rows=100).why == "99 of 100 new rows are there"
    assert is_due(span(rows=40), span(rows=60), min_new_rows=100)


def test_rows_that_nobody_knows_are_enough() -> None:
    """A span that cannot be counted must not wait for ever."""
    assert is_due(span(rows=None), min_new_rows=100)


@pytest.mark.parametrize("settings", [{"cooldown_s": 1000}, {"min_new_rows": 1000}])
def test_the_longest_wait_ends_the_others(settings: dict[str, float]) -> None:
    """It counts from the oldest span that waits."""
    last = run(ended=10)
    assert waits(span(59), span(1), last=last, max_wait_s=60, **settings).until == NOW + timedelta(seconds=1)
    assert is_due(span(60), span(1), last=last, max_wait_s=60, **settings)


def test_a_run_that_goes_on_is_waited_for_in_any_case() -> None:
    """The next run takes what landed meanwhile; the run is named."""
    found = waits(span(1000), last=run(ended=None), max_wait_s=1)
    assert (found.what, found.run_id, found.until) == (WaitingFor.RUN, "p-1", None)


def test_the_spans_of_a_failed_run_are_tried_again_ever_later_and_not_for_ever() -> None:
    """Four times as long after each failure in a row; then it is for a person to look, or for new data."""
    for failures in range(1, TRIES):
        pause_s = BACKOFF.total_seconds() * 4 ** (failures - 1)
        early = waits(span(had_run=True), last=run(ended=pause_s - 1, failures=failures))
        assert (early.what, early.until) == (WaitingFor.BACKOFF, NOW + timedelta(seconds=1))
        assert is_due(span(had_run=True), last=run(ended=pause_s, failures=failures))
    assert waits(span(had_run=True), last=run(ended=1e6, failures=TRIES)).what is WaitingFor.SOMEBODY
    assert is_due(span(had_run=True), span(), last=run(ended=0, failures=TRIES))


def test_what_a_run_ended_early_on_for_its_data_waits_for_somebody() -> None:
    """Another run on the same data would end the same way."""
    assert waits(span(had_run=True), last=run(ended=1e6)).what is WaitingFor.SOMEBODY


def test_whatever_waits_is_due_or_says_why_and_when() -> None:
    """All combinations of a grid: a wait that a clock ends is due at that moment, never earlier."""
    seen, rows, ended, failures = (0, 30, 90), (None, 1, 1000), (None, 0, 50, 500), (0, 1, TRIES)
    settings = [
        {"cooldown_s": cooldown, "min_new_rows": least, **({"max_wait_s": longest} if longest else {})}
        for cooldown, least, longest in product((0, 60, 600), (0, 100), (None, 45))
    ]
    for age, count, end, failed, had_run, keys in product(seen, rows, ended, failures, (False, True), settings):
        spans, last, config = (
            [span(age, count, had_run=had_run)],
            run(end, failures=failed),
            TriggerConfig.model_validate(keys),
        )
        found = decide(spans, last, NOW, config)
        if isinstance(found, Wait):
            assert found.why
            if found.until is not None:
                assert found.until > NOW
                before = decide(spans, last, found.until - timedelta(microseconds=1), config)
                assert isinstance(before, Wait)
                after = decide(spans, last, found.until, config)
                assert isinstance(after, Due) or after.what is not found.what or after.until != found.until
