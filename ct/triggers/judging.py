"""Which spans of a window a candidate is judged on, and so does not learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def spans_to_judge_on(
    window: Sequence[str], new: Sequence[str], undecided: Sequence[str], wait_spans: int
) -> tuple[str, ...]:
    """Names of the spans to judge on, in the window's order.

    That is the newest span that no run has had before: the champion has not learnt from it, also when it came late and sorts
    before others. With it come the spans on which the run before could not tell. After `wait_spans` of them the next
    candidate begins afresh, and learns from what was undecided. At least one span is left to learn from, if there are two.

    Args:
        window: all spans of the run, oldest first.
        new: those that no run has had; none in a run that was forced.
        undecided: what the last run was judged on, if it was inconclusive and the policy waits; else none.
        wait_spans: how many spans to judge on together at most.
    """
    newest = [name for name in window if name in new][-1:] or list(window[-1:])
    earlier = [name for name in window if name in undecided and name not in newest]
    if len(undecided) >= wait_spans:
        earlier = []
    chosen = [name for name in window if name in newest or name in earlier]
    if len(chosen) == len(window) > 1:
        chosen.remove(earlier[0])
    return tuple(chosen)
