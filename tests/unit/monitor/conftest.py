"""What the tests of the monitor begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from monitor_parts import T0, roll_out, stage

from ct.home import Home
from ct.rollout import ModelStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path / "home").create()


@pytest.fixture
def store(home: Home, tmp_path: Path) -> ModelStore:
    """Versions 1, 2 and 3 with a Brier score of 0.1 at the gate; 1 served, and 2 serves since T0."""
    store = ModelStore(home, "flights")
    for version in (1, 2, 3):
        stage(store, tmp_path, version, brier=0.1)
    roll_out(store, 1, T0.replace(day=1))
    roll_out(store, 2, T0)
    return store
