"""Which warm versions have room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.plane.room import GRAPH_MB, Needs, choose_warm, size_mb

if TYPE_CHECKING:
    from pathlib import Path

FLIGHTS = Needs("flights", {9: 10}, {8: 10, 7: 10, 6: 10})
TRIPS = Needs("trips", {3: 10, 4: 10}, {2: 10, 1: 10})


@pytest.mark.parametrize(
    ("budget_mb", "chosen"),
    [
        (0, []),
        (39, []),
        (40, [("flights", 8)]),
        (50, [("flights", 8), ("trips", 2)]),
        (70, [("flights", 7), ("flights", 8), ("trips", 1), ("trips", 2)]),
        (1000, [("flights", 6), ("flights", 7), ("flights", 8), ("trips", 1), ("trips", 2)]),
    ],
)
def test_the_oldest_warm_versions_go_first_across_models(budget_mb: float, chosen: list[tuple[str, int]]) -> None:
    """Each model's newest stays longest; what answers has its room before any of them, in whatever order models come."""
    assert sorted(choose_warm([FLIGHTS, TRIPS], budget_mb)) == chosen
    assert sorted(choose_warm([TRIPS, FLIGHTS], budget_mb)) == chosen


def test_a_version_that_is_too_large_takes_its_own_models_older_ones_along_only() -> None:
    """A rollback would go to the large one, so the older ones are of little use; another model's have nothing to do with it."""
    huge = Needs("flights", {9: 10}, {8: 1000, 7: 10})
    assert choose_warm([huge, TRIPS], 100) == {("trips", 2), ("trips", 1)}


SIZES = st.dictionaries(st.integers(1, 9), st.integers(1, 50).map(float), max_size=4)


@given(st.dictionaries(st.sampled_from("abc"), st.tuples(SIZES, SIZES)), st.integers(0, 300))
def test_what_is_chosen_fits_and_is_the_newest_of_each_model(
    models: dict[str, tuple[dict[int, float], dict[int, float]]], budget_mb: int
) -> None:
    """For any sizes: the sum keeps to the budget unless what answers alone exceeds it, and no model skips a version."""
    needs = [
        Needs(name, always, {version: size for version, size in warm.items() if version not in always})
        for name, (always, warm) in models.items()
    ]
    chosen = choose_warm(needs, budget_mb)
    always_mb = sum(sum(need.always.values()) for need in needs)
    chosen_mb = sum(need.warm[version] for need in needs for name, version in chosen if name == need.name)
    assert chosen_mb == 0 or always_mb + chosen_mb <= budget_mb
    for need in needs:
        kept = [version for version in need.warm if (need.name, version) in chosen]
        assert kept == list(need.warm)[: len(kept)]


def test_a_size_is_that_of_the_files_and_of_a_graph(tmp_path: Path) -> None:
    """In MiB; a folder that is not there has no files."""
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "data").write_bytes(bytes(3 * 1024**2))
    assert size_mb(tmp_path) == GRAPH_MB + 3
    assert size_mb(tmp_path / "missing") == GRAPH_MB
