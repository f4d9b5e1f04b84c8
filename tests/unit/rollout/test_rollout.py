"""Plans, their execution, and the model store, with serving workers that are threads of the test."""

from __future__ import annotations

import fcntl
import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from rollout_parts import NOW, Registry, answering, roll_back, roll_out, stage, worker

from ct.contracts import Change, DesiredState
from ct.errors import RolloutError, UnknownVersionError
from ct.home import Home
from ct.rollout import announce_worker, apply, plan_rollout, tree_sha256
from ct.rollout.steps import AwaitWorkers, Desire, Remember, TellRegistry

if TYPE_CHECKING:
    from pathlib import Path

    from ct.contracts import WorkerState
    from ct.rollout import ModelStore


def test_versions_are_in_numeric_order(store: ModelStore) -> None:
    """Version 10 comes after 3, and a folder without a manifest is no version."""
    (store.root / "versions" / "11").mkdir()
    assert store.versions() == (1, 2, 3, 10)


def test_a_plan_is_a_list_of_steps_and_touches_nothing(store: ModelStore) -> None:
    """Planning is pure: the steps say what will happen, and the store is as before."""
    plan = plan_rollout("flights", 1, desired=None, history=(), versions=(1,), keep=3, quarantined=())
    assert [type(step) for step in plan.steps] == [Desire, AwaitWorkers, Remember, TellRegistry]
    assert store.desired() is None
    assert store.history() == ()


def test_a_rollout_is_desired_remembered_and_aliased(store: ModelStore) -> None:
    """After a rollout the desired state, the history and the alias agree; without a worker the count is 0."""
    registry = Registry()
    applied = roll_out(store, 1, registry)
    desired = store.desired()
    assert desired is not None
    assert (desired.version, desired.previous, desired.warm) == (1, None, (1,))
    assert [(entry.change, entry.version, entry.actor) for entry in store.history()] == [(Change.ROLLOUT, 1, "on-call")]
    assert registry.champion == 1
    assert applied.workers == 0


def test_rollbacks_go_through_what_served_before(store: ModelStore) -> None:
    """After 1, 2, 10: back to 2, back to 1; then there is nothing earlier, and 10 is reached by name."""
    for version in (1, 2, 10):
        roll_out(store, version)
    assert roll_back(store).entry.version == 2
    assert roll_back(store).entry.version == 1
    with pytest.raises(RolloutError, match="no version served before version 1"):
        roll_back(store)
    assert roll_back(store, to=10).entry.version == 10


def test_a_rollout_after_a_rollback_goes_back_to_what_served_then(store: ModelStore) -> None:
    """1, 2, rollback to 1, rollout of 3: the next rollback goes to 1, not to 2, which was given up."""
    roll_out(store, 1)
    roll_out(store, 2)
    roll_back(store)
    roll_out(store, 3)
    assert roll_back(store).entry.version == 1


def test_the_most_recently_served_versions_stay_warm(store: ModelStore) -> None:
    """With room for three, the serving version and the two that served last are kept."""
    for version in (1, 2, 3, 10):
        roll_out(store, version)
    desired = store.desired()
    assert desired is not None
    assert desired.warm == (10, 3, 2)


@pytest.mark.parametrize(
    ("to", "message"), [(7, "its files are missing"), (2, "is serving already")], ids=["missing", "current"]
)
def test_a_rollback_that_cannot_be_changes_nothing(store: ModelStore, to: int, message: str) -> None:
    """The message says what still serves, and neither the desired state nor the history has moved."""
    roll_out(store, 1)
    roll_out(store, 2)
    before = (store.desired(), store.history())
    with pytest.raises(RolloutError, match=message):
        roll_back(store, to=to)
    assert (store.desired(), store.history()) == before


def test_nothing_to_roll_back_is_said(store: ModelStore) -> None:
    """Before the first rollout there is a message, not a crash."""
    with pytest.raises(RolloutError, match="nothing serves yet"):
        roll_back(store)


def test_a_rollout_waits_until_the_worker_answers_with_the_version(store: ModelStore) -> None:
    """The count of workers says that one answered."""
    with answering(store, lambda desired: worker(desired.generation, desired.version)):
        assert roll_out(store, 1).workers == 1


def test_a_worker_that_has_not_seen_the_model_is_waited_for(store: ModelStore) -> None:
    """The first rollout of a model waits for a worker that runs but has reported on no model yet."""
    announce_worker(Home(store.root.parent.parent), worker(0, None))
    with pytest.raises(RolloutError, match=r"was not loaded within 0 s\. Nothing serves yet"):
        roll_out(store, 1, timeout_s=0)


def test_a_version_that_a_worker_refuses_is_reverted(store: ModelStore) -> None:
    """What served before is desired again as a new generation, the history says so, and the error carries the reason."""
    roll_out(store, 1)

    def refuse_two(desired: DesiredState) -> WorkerState:
        error = "version 2 does not load" if desired.version == 2 else None
        return worker(desired.generation, 1, error)

    registry = Registry()
    with answering(store, refuse_two), pytest.raises(RolloutError, match=r"does not load.*Version 1 is still serving"):
        roll_out(store, 2, registry)
    desired = store.desired()
    assert desired is not None
    assert (desired.version, desired.generation) == (1, 3)
    assert [entry.change for entry in store.history()] == [Change.ROLLOUT, Change.REVERT]
    assert registry.champion is None


def test_a_first_version_that_is_refused_leaves_nothing_desired(store: ModelStore) -> None:
    """There is nothing to go back to, so nothing is desired."""
    with (
        answering(store, lambda desired: worker(desired.generation, None, "damaged")),
        pytest.raises(RolloutError, match="damaged"),
    ):
        roll_out(store, 1)
    assert store.desired() is None


def test_a_rollback_succeeds_with_the_registry_down(store: ModelStore) -> None:
    """Serving is what counts; the alias that is behind is reported."""
    roll_out(store, 1)
    roll_out(store, 2)
    applied = roll_back(store, registry=Registry(down=True))
    assert applied.entry.version == 1
    assert applied.registry_problem == "no registry for flights"


def test_two_changes_at_once_are_refused(store: ModelStore) -> None:
    """While another process holds the lock, nothing is changed."""
    roll_out(store, 1)
    with (store.root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RolloutError, match="under way"):
            roll_out(store, 2)
    desired = store.desired()
    assert desired is not None
    assert desired.version == 1


def test_a_plan_made_before_another_change_is_refused(store: ModelStore) -> None:
    """A plan is applied to the state it was made from, or not at all."""
    roll_out(store, 1)
    stale = plan_rollout("flights", 3, **store.facts(3))
    roll_out(store, 2)
    with pytest.raises(RolloutError, match="changed meanwhile"):
        apply(stale, store, Registry(), actor="a", reason="r", clock=lambda: NOW)


def test_a_line_cut_off_by_a_crash_costs_only_itself(store: ModelStore) -> None:
    """The history before it is read, and the next change is on a line of its own."""
    roll_out(store, 1)
    with (store.root / "history.jsonl").open("a") as file:
        file.write('{"generation": 2, "chan')
    roll_out(store, 2)
    assert [entry.version for entry in store.history()] == [1, 2]


def test_a_worker_that_ended_does_not_count(store: ModelStore) -> None:
    """A file of a pid that now belongs to another process, or to none, is not a live worker."""
    state = worker(1, 1)
    store.report_worker(state.model_copy(update={"started_at": NOW}))
    assert store.live_workers() == ()


def test_staging_again_replaces_the_files(store: ModelStore, tmp_path: Path) -> None:
    """A rerun of Rollout leaves one whole version folder and nothing beside it."""
    stage(store, tmp_path, 3)
    assert store.versions() == (1, 2, 3, 10)
    assert sorted(path.name for path in (store.root / "versions").iterdir()) == ["1", "10", "2", "3"]


def test_an_unreadable_manifest_is_an_unknown_version(store: ModelStore) -> None:
    """The message names the file and what serves."""
    (store.version_path(2) / "manifest.json").write_text(json.dumps({"version": 2}))
    with pytest.raises(UnknownVersionError, match=r"cannot be read.*Nothing serves yet"):
        store.manifest(2)


def test_a_desired_state_or_manifest_that_is_no_text_is_a_message(store: ModelStore) -> None:
    """Bytes that are no UTF-8, and a file that cannot be opened, are ct's own errors, with the file in the message."""
    roll_out(store, 1)
    (store.version_path(2) / "manifest.json").write_bytes(b"\xff")
    with pytest.raises(UnknownVersionError, match="cannot be read"):
        store.manifest(2)
    (store.root / "desired.json").write_bytes(b"\xff")
    with pytest.raises(RolloutError, match=r"desired\.json cannot be read \(1 problems\)"):
        store.desired()
    (store.root / "desired.json").unlink()
    (store.root / "desired.json").mkdir()
    with pytest.raises(RolloutError, match=r"desired\.json cannot be read \(Is a directory\)"):
        store.desired()


def test_a_tree_is_hashed_over_paths_sizes_and_bytes(tmp_path: Path) -> None:
    """The hash that manifests carry, also of a file that is read in several pieces."""
    big = bytes(range(256)) * 10_000
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "big").write_bytes(big)
    (tmp_path / "a").write_bytes(b"small")
    expected = hashlib.sha256(b"a\x005\x00small" + b"b/big\x002560000\x00" + big).hexdigest()
    assert tree_sha256(tmp_path) == expected
