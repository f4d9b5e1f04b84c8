"""A home with six months behind it, of which the last two are recent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from garbage_home import Past

from ct.home import Home

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def past(tmp_path: Path) -> Past:
    """Six months, a version each; `retention` keeps one version and ten days. Version 6 serves."""
    past = Past(Home(tmp_path / "home"))
    past.deploy("spec0")
    for month in range(1, 7):
        past.month(month)
    past.serve(6)
    return past
