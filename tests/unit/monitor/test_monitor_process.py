"""The monitor's process: what it does for each model, whatever the model's pipeline says of watching."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from monitor_parts import NoRegistry

from ct.monitor import __main__ as process
from ct.monitor_config import MonitorConfig
from ct.settings import Settings

if TYPE_CHECKING:
    from ct.home import Home
    from ct.rollout import ModelStore


@pytest.mark.parametrize("enabled", [True, False])
def test_a_registry_that_is_behind_is_told_also_where_nothing_is_watched(
    home: Home, store: ModelStore, monkeypatch: pytest.MonkeyPatch, *, enabled: bool
) -> None:
    """A model that nobody wants watched is rolled out and rolled back all the same."""
    monkeypatch.setattr(process, "MlflowRegistry", lambda _url: NoRegistry())
    monkeypatch.setattr(process, "config_of", lambda _home, _name: MonitorConfig(enabled=enabled))
    store.note_registry_behind()
    monitor = process.Monitor(home, Settings(serving_port=1))
    try:
        monitor.look()
    finally:
        monitor.stop()
    assert store.registry_behind is None
    assert (home.root / "monitor" / "flights" / "status.json").exists() is enabled
