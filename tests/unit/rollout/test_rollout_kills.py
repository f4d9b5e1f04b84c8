"""A change that is killed between any two of its writes, and whoever comes next: everything agrees in the end."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rollout_parts import NOW, answering, carry_out, roll_out, stage, worker

from ct.contracts import Canary, Change
from ct.home import Home
from ct.rollout import (
    ModelStore,
    RefusedError,
    lift_quarantine,
    plan_canary,
    plan_end,
    plan_end_canary,
    plan_rollback,
    plan_rollout,
    plan_shadow,
    resume,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from ct.contracts import DesiredState, HistoryEntry, WorkerState
    from ct.rollout import Plan

    Copies = Iterator[tuple[ModelStore, "Registry"]]

KILLED = 9
TENTH = Canary(version=3, share=0.1, key="header:ct-key")
SEEN_ENOUGH = 60
"""Writes after which a change must have come to its end."""


@dataclass(frozen=True)
class Registry:
    """An alias and tags in files, so that whoever survives the kill can see them."""

    path: Path

    def point_champion(self, name: str, version: int) -> None:
        """Point it, in one write that may be the last."""
        assert name == "flights"
        self._write(self.path, str(version))

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Likewise."""
        assert name == "flights"
        self._write(self.path.with_name(f"tags-{version}"), " ".join(f"{key}={value}" for key, value in tags.items()))

    def _write(self, path: Path, text: str) -> None:
        unfinished = path.with_name("unfinished")
        unfinished.write_text(text)
        unfinished.replace(path)

    @property
    def quarantined(self) -> tuple[int, ...]:
        """The versions that are tagged so."""
        tagged = self.path.parent.glob("tags-*")
        return tuple(int(path.name.removeprefix("tags-")) for path in tagged if "ct.quarantine" in path.read_text())

    @property
    def champion(self) -> int | None:
        return int(self.path.read_text()) if self.path.exists() else None


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill loses nothing that was written, so these thousands of writes need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def plan_of(change: str, store: ModelStore) -> Plan:
    """The plan of each kind of change, from a store where 2 serves after 1 with version 10 as its shadow."""
    facts = store.facts(3)
    plans: dict[str, Callable[[], Plan]] = {
        "rollout": lambda: plan_rollout("flights", 3, **facts),
        "rollback": lambda: plan_rollback("flights", None, **facts),
        "drill": lambda: plan_rollback("flights", None, quarantine=False, **facts),
        "canary": lambda: plan_canary("flights", TENTH, **facts),
        "shadow": lambda: plan_shadow("flights", 3, **facts),
        "end": lambda: plan_end("flights", **facts),
        "end of a worse canary": lambda: _end_of_canary(store),
    }
    return plans[change]()


def _end_of_canary(store: ModelStore) -> Plan:
    carry_out(plan_canary("flights", TENTH, **store.facts(3)), store)
    return plan_end_canary("flights", **store.facts(3))


CHANGES = ("rollout", "rollback", "drill", "canary", "shadow", "end", "end of a worse canary")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home and an alias where version 2 serves after 1, with 10 as its shadow."""
    folder = tmp_path_factory.mktemp("begun")
    store, registry = ModelStore(Home(folder / "home").create(), "flights"), Registry(folder / "alias")
    for version in (1, 2, 3, 10):
        stage(store, folder, version)
    for version in (1, 2):
        roll_out(store, version, registry)
    carry_out(plan_shadow("flights", 10, **store.facts(3)), store, registry)
    return folder


@pytest.fixture
def fresh(begun: Path, tmp_path: Path) -> Copies:
    """Copies of that home, one after the other."""

    def copies() -> Copies:
        for number in count():
            folder = tmp_path / str(number)
            shutil.copytree(begun, folder)
            yield ModelStore(Home(folder / "home"), "flights"), Registry(folder / "alias")

    return copies()


def killed_at(number: int, *, after: bool, act: Callable[[], Any]) -> bool:
    """Do something in a process that is killed at its n-th write, before or after that write; whether it was.

    A write is whatever changes a file that others see: a file that gets its name, a line, a file that goes.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _kill_at(number, after=after)
            act()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, KILLED), "the change failed instead of being killed"
    return code == KILLED


def _kill_at(number: int, *, after: bool) -> None:
    seen = 0

    def deadly(write: Callable[..., Any]) -> Callable[..., Any]:
        def writing(*arguments: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == number and not after:
                os._exit(KILLED)
            result = write(*arguments, **named)
            if seen == number:
                os._exit(KILLED)
            return result

        return writing

    for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "fsync")):
        setattr(owner, name, deadly(getattr(owner, name)))


def resumed(store: ModelStore, registry: Registry) -> None:
    """What the next command, the retry or the monitor does."""
    resume(store, registry, clock=lambda: NOW)


def agrees(store: ModelStore, registry: Registry, plan: Plan, before: tuple[HistoryEntry, ...]) -> bool:
    """See that the change happened wholly or not at all, on every record, and leave nothing behind; whether it did."""
    desired, history = store.desired(), store.history()
    assert desired is not None
    assert desired in (plan.before, plan.after)
    assert store.journal() is None
    happened = desired == plan.after
    assert history[: len(before)] == before
    own = history[len(before) :]
    assert [(entry.change, entry.generation) for entry in own] == (
        [(plan.change, plan.after.generation)] if happened else []
    )
    assert history[-1].version == desired.version == registry.champion
    assert store.registry_behind is None
    assert store.quarantined() == ((plan.quarantines,) if happened and plan.quarantines else ())
    assert registry.quarantined == store.quarantined()
    return happened


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_is_killed_at_any_write_converges(fresh: Copies, change: str, *, after: bool) -> None:
    """Serving, alias, baseline, history and quarantine agree once somebody resumes, with one entry for the change."""
    outcomes = []
    for number in range(1, SEEN_ENOUGH):
        store, registry = next(fresh)
        plan, before = plan_of(change, store), store.history()
        was_killed = killed_at(number, after=after, act=lambda: carry_out(plan, store, registry))  # noqa: B023
        resumed(store, registry)
        outcomes.append(agrees(store, registry, plan, before))
        assert resume(store, registry, clock=lambda: NOW) is None
        if not was_killed:
            break
    else:
        pytest.fail("the change never came to its end")
    assert outcomes == sorted(outcomes), "once it is desired, it stays"
    assert (outcomes[0], outcomes[-1]) == (False, True)


@pytest.mark.parametrize("change", ["rollout", "rollback", "canary"])
def test_a_change_and_its_resumption_may_both_be_killed(fresh: Copies, change: str) -> None:
    """Killed at each write, and then whoever resumes it at each of theirs: the one after that still converges."""
    killed_twice = 0
    for first in range(1, SEEN_ENOUGH):
        for second in range(1, SEEN_ENOUGH):
            store, registry = next(fresh)
            plan, before = plan_of(change, store), store.history()
            first_killed = killed_at(first, after=True, act=lambda: carry_out(plan, store, registry))  # noqa: B023
            second_killed = killed_at(second, after=False, act=lambda: resumed(store, registry))  # noqa: B023
            resumed(store, registry)
            agrees(store, registry, plan, before)
            killed_twice += first_killed and second_killed
            if not second_killed:
                break
        if not first_killed:
            break
    assert killed_twice > 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_revert_that_is_killed_at_any_write_converges(fresh: Copies, *, after: bool) -> None:
    """The workers refuse the version whoever asks them: what served serves, and the history has the revert once."""
    for number in range(1, SEEN_ENOUGH):
        store, registry = next(fresh)
        plan, before = plan_of("rollout", store), store.history()

        def refused() -> None:
            with pytest.raises(RefusedError):
                carry_out(plan, Refusing(store), registry)  # noqa: B023

        was_killed = killed_at(number, after=after, act=refused)
        resume(Refusing(store), registry, clock=lambda: NOW)
        desired, own = store.desired(), store.history()[len(before) :]
        assert desired is not None
        assert (desired.version, desired.shadow, registry.champion) == (2, 10, 2)
        assert [entry.change for entry in own] == ([] if desired == plan.before else [Change.REVERT])
        assert store.journal() is None
        if not was_killed:
            break
    else:
        pytest.fail("the revert never came to its end")


class Refusing(ModelStore):
    """A store whose one worker does not take version 3."""

    def __init__(self, store: ModelStore) -> None:
        super().__init__(Home(store.root.parent.parent), store.name)

    def live_workers(self) -> tuple[WorkerState, ...]:
        """The worker, as it answers to what is desired now."""
        desired = self.desired()
        assert desired is not None
        return (worker(desired.generation, 2, "damaged" if desired.version == 3 else None),)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_rollback_comes_after_a_change_that_was_killed_at_any_write(
    fresh: Copies, change: str, *, after: bool
) -> None:
    """It waits for nobody to resume: it goes to what served before, and both changes are in the history once."""
    for number in range(1, SEEN_ENOUGH):
        store, registry = next(fresh)
        roll_out(store, 10, registry)
        carry_out(plan_shadow("flights", 1, **store.facts(3)), store, registry)
        plan, before = plan_of(change, store), store.history()
        was_killed = killed_at(number, after=after, act=lambda: carry_out(plan, store, registry))  # noqa: B023
        back = plan_rollback("flights", None, **store.facts(3))
        carry_out(back, store, registry)
        assert registry.champion == back.after.version
        resumed(store, registry)
        agrees_after_rollback(store, registry, plan, back, before)
        if not was_killed:
            break
    else:
        pytest.fail("the change never came to its end")


def agrees_after_rollback(
    store: ModelStore, registry: Registry, plan: Plan, back: Plan, before: tuple[HistoryEntry, ...]
) -> None:
    """See that the killed change is on record where it came to be desired, and the rollback after it."""
    assert store.desired() == back.after
    own = [plan.change, Change.ROLLBACK] if back.before == plan.after else [Change.ROLLBACK]
    assert [entry.change for entry in store.history()[len(before) :]] == own
    quarantined = {back.quarantines} | ({plan.quarantines} if back.before == plan.after else set())
    assert set(store.quarantined()) == set(registry.quarantined) == quarantined - {None}
    assert registry.champion == back.after.version
    assert store.registry_behind is None


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_lift_that_is_killed_at_any_write_converges(fresh: Copies, *, after: bool) -> None:
    """It has happened or not, and the registry says the same once somebody resumes."""
    outcomes = []
    for number in range(1, SEEN_ENOUGH):
        store, registry = next(fresh)
        carry_out(plan_rollback("flights", None, **store.facts(3)), store, registry)

        def lift() -> None:
            lift_quarantine(store, 2, by="anna", reason="it was the network", at=NOW)  # noqa: B023

        was_killed = killed_at(number, after=after, act=lift)
        resumed(store, registry)
        told = (registry.path.parent / "tags-2").read_text()
        outcomes.append(told == "ct.quarantine=lifted 2026-01-02 by anna: it was the network")
        assert store.quarantined() == (() if outcomes[-1] else (2,))
        assert store.registry_behind is None
        if not was_killed:
            break
    else:
        pytest.fail("the lift never came to its end")
    assert (outcomes[0], outcomes[-1]) == (False, True)


def test_workers_are_waited_for_when_a_change_is_resumed(store: ModelStore) -> None:
    """A rollout that was killed as soon as it was desired is in the history once a worker answers with it."""
    roll_out(store, 1)

    def follow(desired: DesiredState) -> WorkerState:
        return worker(desired.generation, desired.version)

    registry = Registry(store.root / "alias")
    plan = plan_rollout("flights", 2, **store.facts(3))
    with answering(store, follow):
        assert killed_at(6, after=True, act=lambda: carry_out(plan, store, registry))
        found = resume(store, registry, clock=lambda: NOW)
    assert found is not None
    assert "(version 2) by on-call, cut short, is finished" in found.message
    assert [entry.version for entry in store.history()] == [1, 2]
