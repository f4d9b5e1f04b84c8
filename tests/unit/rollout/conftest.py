"""The store that the tests of rollouts begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rollout_parts import stage

from ct.home import Home
from ct.rollout import ModelStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with versions 1, 2, 3 and 10, of which none serves yet."""
    home = Home(tmp_path / "home").create()
    store = ModelStore(home, "flights")
    for version in (1, 2, 3, 10):
        stage(store, tmp_path, version)
    return store
