"""Who answers a request while a canary runs."""

from __future__ import annotations

from itertools import combinations
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ct.contracts import Canary, Feature
from ct.home import Home
from ct.settings import Settings
from serving.logs.prediction_log import PredictionLog
from serving.plane.data_plane import DataPlane
from serving.plane.table import ModelTable, ServedModel
from serving.rows import Layout, from_columns

if TYPE_CHECKING:
    from pathlib import Path

OLD: Any = SimpleNamespace(version=6)
NEW: Any = SimpleNamespace(version=7)
KEYS = [f"user-{number}" for number in range(20_000)]


def model(share: float | None, version: int = 7, key: str = "header:ct-key") -> ServedModel:
    """Version 6 serves, 7 is the canary."""
    canary = Canary(version=version, share=share, key=key) if share else None
    return ServedModel("flights", OLD, MappingProxyType({6: OLD, version: NEW}), canary)


def canary_keys(share: float, version: int) -> set[str]:
    """The keys that a canary answers."""
    served = model(share, version)
    return {key for key in KEYS if served.for_key(key) is NEW}


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


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_two_canaries_share_as_many_keys_as_independent_draws_do(share: float) -> None:
    """It is not the same clients who get every canary; within four standard deviations for each of ten pairs."""
    drawn = [canary_keys(share, version) for version in (3, 4, 5, 12, 13)]
    for one, other in combinations(drawn, 2):
        expected = share * share
        assert abs(len(one & other) / len(KEYS) - expected) < 4 * (expected * (1 - expected) / len(KEYS)) ** 0.5


def test_the_prediction_log_samples_a_canarys_requests_as_any_others(tmp_path: Path) -> None:
    """Also where the key is the request's id, which the sample is drawn by."""
    log = PredictionLog(Home(tmp_path / "home").create(), share=0.1, budget_mb=1)
    for version in (3, 4, 7):
        drawn = canary_keys(0.1, version)
        assert sum(map(log.wants, drawn)) / len(drawn) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("feature", "as_json", "as_sent"),
    [
        (Feature(name="x", dtype="float32"), 7, 7.0),
        (Feature(name="x", dtype="float32"), 0.1, float(np.float32(0.1))),
        (Feature(name="x", dtype="float32"), -0.0, 0.0),
        (Feature(name="x", dtype="int64"), 7, 7),
        (Feature(name="x", dtype="string"), "UA", "UA"),
    ],
)
def test_a_feature_gives_the_same_variant_over_every_protocol(feature: Feature, as_json: Any, as_sent: Any) -> None:
    """The same number, written in JSON or sent as 32 bits; told by canaries of ten versions, each with half of the keys."""
    layout = Layout((feature, Feature(name="other", dtype="float32")))
    plane: Any = DataPlane(ModelTable(), Settings(), *[SimpleNamespace()] * 3)  # type: ignore[arg-type]
    for version in range(10, 20):
        chosen = SimpleNamespace(by_feature="x", model=model(0.5, version, "feature:x"))
        answered = {
            id(plane.settle(chosen, from_columns(layout, {"x": [value], "other": [1]}, "inputs")).version)
            for value in (as_json, as_sent)
        }
        assert len(answered) == 1
    plane.close()
