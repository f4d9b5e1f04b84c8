"""How `ct gc` removes: one step an item, a second look at versions, one collector at a time."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from garbage_home import NAME

from ct.contracts import Change
from ct.errors import CTError
from ct.garbage import Kind, collect, plan
from ct.rollout import pin
from ct.rollout.locks import under_way

if TYPE_CHECKING:
    from pathlib import Path

    from garbage_home import Past

    from ct.garbage import Item


def items_of(past: Past) -> tuple[Item, ...]:
    """What would go."""
    return plan(past.home, past.ledger, {NAME: past.executions}, now=past.clock.now).items


def test_what_was_planned_is_gone_and_the_rest_is_whole(past: Past) -> None:
    """Afterwards there is nothing left to do."""
    done = collect(past.home, past.ledger, items_of(past))
    assert past.store.versions() == (6,)
    assert past.store.manifest(6).run_id == "run-6"
    assert [path.name for path in past.home.runs.iterdir()] == ["run-6"]
    assert done.freed[Kind.FETCHED] == 400
    assert not done.left
    assert items_of(past) == ()
    assert list(past.home.scratch.glob("gc-*")) == []


def test_a_version_that_came_into_use_since_the_plan_stays(past: Past) -> None:
    """It is looked at again under the model's lock."""
    items = items_of(past)
    pin(past.store, 3)
    done = collect(past.home, past.ledger, items)
    assert past.store.versions() == (3, 6)
    assert done.left == {f"{NAME} 3": "pinned"}


def test_versions_stay_while_a_change_of_what_serves_is_under_way(past: Past) -> None:
    """A rollout may be about to use one."""
    items = [item for item in items_of(past) if item.kind is Kind.VERSION]
    with under_way(past.store, Change.ROLLOUT):
        done = collect(past.home, past.ledger, items)
    assert past.store.versions() == (1, 2, 3, 4, 5, 6)
    assert len(done.left) == 5


def test_a_kill_while_deleting_leaves_no_half_version(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every version is whole or gone, and the next run removes what the killed one had taken out of use."""

    class KilledError(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    items = items_of(past)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KilledError):
            collect(past.home, past.ledger, items)
    assert past.store.versions() == (6,)
    assert {item.kind for item in items_of(past)} == {Kind.LEFTOVER}
    collect(past.home, past.ledger, items_of(past))
    assert items_of(past) == ()


def test_a_kill_between_two_items_leaves_both_whole_or_gone(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version's folder has its manifest or is not there."""
    moved: list[Path] = []
    rename = type(past.home.root).rename

    def rename_twice(path: Path, target: Path) -> Path:
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(path)
        return rename(path, target)

    versions = [item for item in items_of(past) if item.kind is Kind.VERSION]
    with monkeypatch.context() as patched:
        patched.setattr(type(past.home.root), "rename", rename_twice)
        with pytest.raises(KeyboardInterrupt):
            collect(past.home, past.ledger, versions)
    folders = {path.name for path in (past.store.root / "versions").iterdir()}
    assert folders == {str(version) for version in past.store.versions()} == {"3", "4", "5", "6"}


def test_only_one_collects_at_a_time(past: Past) -> None:
    """The second says so and removes nothing."""
    import fcntl  # noqa: PLC0415

    past.home.scratch.mkdir(exist_ok=True)
    with (past.home.scratch / "gc.lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(CTError, match="Another `ct gc`"):
            collect(past.home, past.ledger, items_of(past))
    assert len(past.store.versions()) == 6


def test_what_went_by_itself_is_no_error(past: Past) -> None:
    """A command that goes on removes its own files."""
    items = items_of(past)
    shutil.rmtree(past.home.runs / "run-1")
    collect(past.home, past.ledger, items)
    assert [path.name for path in past.home.runs.iterdir()] == ["run-6"]
