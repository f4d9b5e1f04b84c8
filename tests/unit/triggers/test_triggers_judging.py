"""Which spans a candidate is judged on."""

from __future__ import annotations

import pytest

from ct.triggers.judging import spans_to_judge_on


@pytest.mark.parametrize(
    ("window", "new", "undecided", "judged"),
    [
        ("a", "a", "", "a"),
        ("abc", "c", "", "c"),
        ("abc", "bc", "", "c"),
        ("abc", "", "", "c"),
        ("abc", "b", "", "b"),
        ("abcd", "d", "c", "cd"),
        ("abcde", "e", "cd", "cde"),
        ("abcdef", "f", "cde", "f"),
        ("ab", "b", "a", "b"),
        ("bcd", "d", "a", "d"),
        ("abc", "a", "c", "ac"),
    ],
    ids=[
        "the only span",
        "the newest",
        "the newest of several new ones",
        "the newest where none is new",
        "a late one, which the champion has not learnt from",
        "with the one that could not be told",
        "with two",
        "afresh after three",
        "one is left to learn from",
        "what has left the window is forgotten",
        "a late one and the one that could not be told",
    ],
)
def test_the_newest_new_span_and_what_was_undecided(window: str, new: str, undecided: str, judged: str) -> None:
    """Letters are spans, and the policy waits for three at most."""
    assert "".join(spans_to_judge_on(window, new, undecided, 3)) == judged
