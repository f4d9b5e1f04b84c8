"""What served when, as the history tells it."""

from __future__ import annotations

from datetime import timedelta

from rollout_parts import NOW

from ct.contracts import Canary, Change, HistoryEntry
from ct.rollout import served_at, serving_since
from ct.rollout.history import served_stack

TENTH = Canary(version=9, share=0.1, key="header:ct-key")


def entry(minute: int, change: Change, version: int, *, canary: Canary | None = None) -> HistoryEntry:
    """A change so many minutes after NOW."""
    return HistoryEntry(
        generation=minute + 1,
        change=change,
        version=version,
        previous=None,
        at=NOW + timedelta(minutes=minute),
        actor="a",
        reason="r",
        canary=canary,
    )


HISTORY = [
    entry(0, Change.ROLLOUT, 1),
    entry(10, Change.ROLLOUT, 2),
    entry(20, Change.CANARY, 2, canary=TENTH),
    entry(30, Change.ROLLBACK, 1),
]


def served(minutes: float) -> HistoryEntry | None:
    """What served so many minutes after NOW."""
    return served_at(HISTORY, NOW + timedelta(minutes=minutes))


def test_nothing_served_before_the_first_rollout() -> None:
    """Not the first version, and not an error."""
    assert served(-0.001) is None
    assert served_at([], NOW) is None


def test_a_change_serves_from_its_own_moment_until_the_next() -> None:
    """Both ends of a version's time, and the time after the last change."""
    assert [found.version for found in map(served, (0, 9.999, 10, 29.999, 30, 1000)) if found] == [1, 1, 2, 2, 1, 1]


def test_a_canary_is_part_of_what_served() -> None:
    """During the canary version 2 is the champion still."""
    during, before = served(25), served(15)
    assert during is not None
    assert before is not None
    assert (during.version, during.canary, before.canary) == (2, TENTH, None)


def test_a_clock_that_was_set_back_does_not_hide_the_later_change() -> None:
    """What was changed later is what served, whatever the clock said."""
    later = entry(5, Change.ROLLOUT, 3)
    found = served_at([*HISTORY[:2], later], NOW + timedelta(minutes=15))
    assert found is not None
    assert found.version == 3


def test_a_version_serves_since_it_became_champion() -> None:
    """A canary beside it and a revert to it do not interrupt it."""
    assert serving_since(HISTORY[:3]) == HISTORY[1]
    assert serving_since([*HISTORY[:2], entry(12, Change.REVERT, 2)]) == HISTORY[1]
    assert serving_since(HISTORY) == HISTORY[3]
    assert serving_since([]) is None


def test_served_stack_forgets_what_was_rolled_back() -> None:
    """A revert or rollback drops what came after its target."""
    assert served_stack([*HISTORY[:2], entry(3, Change.ROLLBACK, 1), entry(4, Change.ROLLOUT, 3)]) == [1, 3]


def test_served_stack_ignores_what_went_beside_the_champion() -> None:
    """A canary, a shadow and their end change no champion, also when it is an older version that serves again."""
    beside = [entry(m, change, 1) for m, change in ((31, Change.CANARY), (32, Change.SHADOW), (33, Change.END))]
    assert served_stack([*HISTORY, *beside]) == [1]
    assert served_stack([*HISTORY[:2], *beside]) == [1, 2]
