"""The product's story on small spans, with every real part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ct.home import Home
from demo.report import write_story
from demo.story import Setting, problems, tell

if TYPE_CHECKING:
    from pathlib import Path

MONTHS = (1, 2)
ROWS = 4000


@pytest.mark.timeout(900)
def test_months_land_and_are_served_and_rolled_back(tmp_path: Path, small_flights: Path) -> None:
    """Each landing retrains, two versions are served, no request fails, the rollback answers, and nothing is left running."""
    story = tell(Setting(Home(tmp_path / "home"), MONTHS, ROWS, print, small_flights))
    assert problems(story) == []
    assert [month.span for month in story.months] == ["2013-01", "2013-02"]
    first, second = story.months
    assert first.champion_auc is None
    assert second.champion_auc is not None
    assert second.january_auc is not None
    assert {"1", "2"} <= set(story.traffic.by_version)
    assert (story.rolled_back_from, story.rolled_back_to) == (2, 1)
    write_story(story, tmp_path / "out")
    assert (tmp_path / "out" / "auc.png").stat().st_size > 10_000
