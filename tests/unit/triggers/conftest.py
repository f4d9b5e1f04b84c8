"""Where the ledgers of these tests are: SQLite. The tests of tests/integration/ledger run the same on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ct.home import Home

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def ledger_home(tmp_path: Path) -> Home:
    """A home whose ledger is empty."""
    return Home(tmp_path)
