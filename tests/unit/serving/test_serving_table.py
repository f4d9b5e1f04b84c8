"""Who answers a request while a canary runs."""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from ct.contracts import Canary
from serving.plane.table import ServedModel

OLD: Any = SimpleNamespace(version=6)
NEW: Any = SimpleNamespace(version=7)
KEYS = [f"user-{number}" for number in range(20_000)]


def model(share: float | None) -> ServedModel:
    """Version 6 serves, 7 is the canary."""
    canary = Canary(version=7, share=share, key="header:ct-key") if share else None
    return ServedModel("flights", OLD, MappingProxyType({6: OLD, 7: NEW}), canary)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_of_keys_is_as_asked(share: float) -> None:
    """Within three standard deviations of a fair draw."""
    hits = sum(model(share).for_key(key) is NEW for key in KEYS) / len(KEYS)
    assert abs(hits - share) < 3 * (share * (1 - share) / len(KEYS)) ** 0.5


def test_a_key_is_answered_by_the_same_version_each_time_and_stays_when_the_share_grows() -> None:
    """A client sees no going back and forth."""
    small = {key for key in KEYS if model(0.1).for_key(key) is NEW}
    assert small == {key for key in KEYS if model(0.1).for_key(key) is NEW}
    assert small < {key for key in KEYS if model(0.3).for_key(key) is NEW}


def test_without_a_key_or_a_canary_the_champion_answers() -> None:
    """What cannot be told apart stays with what is proven."""
    assert model(0.9).for_key(None) is OLD
    assert model(None).for_key("user-1") is OLD
