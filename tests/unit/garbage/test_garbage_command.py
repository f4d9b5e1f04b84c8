"""`ct gc` as a shell sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ct.cli.garbage import gc

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result
    from garbage_home import Past


@pytest.fixture
def ct_gc(past: Past, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command against the home."""
    monkeypatch.setenv("CT_HOME", str(past.home.root))

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(gc, arguments, catch_exceptions=False)
        assert result.exit_code == 0
        return result

    return run


def paths(past: Past) -> set[str]:
    """Every file of the home that is not the ledger's."""
    return {str(path) for path in past.home.root.rglob("*") if "ledger" not in path.name}


def test_a_dry_run_changes_nothing(past: Past, ct_gc: Callable[..., Result]) -> None:
    """It says how much of what, and leaves every file."""
    before = paths(past)
    told = ct_gc("--dry-run").output
    assert paths(past) == before
    assert ["versions", "5"] in [line.split()[:2] for line in told.splitlines()]
    assert told.splitlines()[-1].startswith("would free 0.0 MB")


def test_what_a_dry_run_names_is_what_goes(past: Past, ct_gc: Callable[..., Result]) -> None:
    """The same items, and afterwards nothing is left to remove."""
    planned: dict[str, Any] = json.loads(ct_gc("--dry-run", "--json").output)
    done = json.loads(ct_gc("--json").output)
    assert done["items"] == planned["items"]
    assert past.store.versions() == (6,)
    assert ct_gc().output == "nothing to remove\n"


def test_verbose_says_why_each_version_stays(ct_gc: Callable[..., Result]) -> None:
    """And why each item goes."""
    told = ct_gc("--dry-run", "--verbose").output.splitlines()
    assert "stays: trips 6: serves" in told
    assert "versions: trips 1: not among the newest, and nothing uses it; judged approved" in told
