"""The year's table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from demo.year_report import Judged, NextMonth, Year, write_table, write_year

if TYPE_CHECKING:
    from pathlib import Path


def month(span: str, verdict: str, difference: float | None, serves: int) -> Judged:
    """One month."""
    return Judged(
        span=span,
        rows=27_000,
        seconds=41.0,
        candidate_auc=0.7,
        champion_auc=None if difference is None else 0.7 - difference,
        champion_version=None if difference is None else 1,
        difference=difference,
        low=None if difference is None else difference - 0.004,
        high=None if difference is None else difference + 0.004,
        margin=None if difference is None else -0.005,
        verdict=verdict,
        reason=f"because {verdict}",
        version=serves,
        serves=serves,
    )


YEAR = Year(
    months=(
        month("2013-01", "approved", None, 1),
        month("2013-02", "inconclusive", 0.001, 1),
        month("2013-03", "approved", 0.02, 3),
    ),
    following=(
        NextMonth(after="2013-01", on="2013-02", version=1, served_auc=0.64, frozen_auc=0.64),
        NextMonth(after="2013-02", on="2013-03", version=1, served_auc=0.70, frozen_auc=0.66),
    ),
    seconds=100.0,
)


def test_every_verdict_stands_with_its_interval() -> None:
    """A month without a comparison shows dashes, the others difference and interval."""
    lines = write_table(YEAR).splitlines()
    assert lines[2].split()[5:9] == ["-", "-", "approved", "1"]
    assert " ".join(lines[3].split()[5:9]) == "+0.0010 [-0.0030, +0.0050] inconclusive"
    assert "verdicts: 2 approved, 1 inconclusive" in lines
    assert "2013-02: because inconclusive" in lines


def test_the_mean_is_of_the_months_after() -> None:
    """What served against January's model, over the months that neither had seen."""
    mean = next(line for line in write_table(YEAR).splitlines() if line.startswith("mean"))
    assert mean.split() == ["mean", "0.6700", "0.6500"]


def test_table_numbers_and_plot_are_written(tmp_path: Path) -> None:
    """Three files; the JSON has the means."""
    write_year(YEAR, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["auc.png", "table.txt", "year.json"]
    assert json.loads((tmp_path / "out" / "year.json").read_text())["served_mean"] == pytest.approx(0.67)
