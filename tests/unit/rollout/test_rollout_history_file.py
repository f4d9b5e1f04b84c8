"""The history on disk, when its bytes are not what one would wish for."""

from __future__ import annotations

import pytest
from rollout_parts import carry_out, roll_back, roll_out

from ct.rollout import ModelStore, plan_rollout

SEPARATORS = ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\r", "\r\n", "\n"]


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
def test_whatever_a_reason_holds_it_is_one_line_of_the_history(store: ModelStore, separator: str) -> None:
    """Also what Python takes for the end of a line: no change is lost, and the rollback goes to what served before."""
    roll_out(store, 1)
    reason = f"better{separator}by far"
    carry_out(plan_rollout("flights", 2, **store.facts(3)), store, reason=reason)
    roll_out(store, 3)
    assert [(entry.version, entry.reason) for entry in store.history()] == [(1, "better"), (2, reason), (3, "better")]
    assert roll_back(store).entry.version == 2


def test_a_line_torn_inside_a_character_costs_only_itself(store: ModelStore) -> None:
    """A power cut may end the file in the middle of a character of several bytes."""
    roll_out(store, 1)
    with (store.root / "history.jsonl").open("ab") as file:
        file.write('{"reason": "größer'.encode()[:-4])
    assert [entry.version for entry in store.history()] == [1]
    roll_out(store, 2)
    assert [entry.version for entry in store.history()] == [1, 2]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"], ids=["empty", "torn", "no text"])
def test_an_unreadable_note_counts_as_absent(store: ModelStore, content: bytes) -> None:
    """It stops neither the history nor the next change, which takes it away."""
    roll_out(store, 1)
    (store.root / "change.json").write_bytes(content)
    assert [entry.version for entry in store.history()] == [1]
    roll_out(store, 2)
    assert [entry.version for entry in store.history()] == [1, 2]
    assert not (store.root / "change.json").exists()


def test_a_change_is_remembered_once(store: ModelStore) -> None:
    """Whoever settles it first: the command itself or the one that came after."""
    roll_out(store, 1)
    (entry,) = store.history()
    store.remember(entry)
    assert store.history() == (entry,)
