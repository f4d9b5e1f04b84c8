"""What `ct gc` may remove, and what it must not."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from garbage_home import NAME

from ct.contracts import Canary, QuarantineRecord
from ct.errors import RolloutError
from ct.garbage import Kind, freed_bytes, plan
from ct.garbage.plan import LEFTOVER_AFTER
from ct.rollout import pin

if TYPE_CHECKING:
    from garbage_home import Past

    from ct.garbage import Plan


def planned(past: Past) -> Plan:
    """The plan, with the executions that ML Metadata would name."""
    return plan(past.home, past.ledger, {NAME: past.executions}, now=past.clock.now)


def going(past: Past, kind: Kind) -> set[str]:
    """Names of what would go."""
    return {item.name for item in planned(past).items if item.kind is kind}


def versions(past: Past) -> set[int | None]:
    """Versions that would go."""
    return {item.number for item in planned(past).items if item.kind is Kind.VERSION}


def test_versions_that_nothing_uses_go(past: Past) -> None:
    """Of six versions the newest stays, which serves; `retention.versions` is 1."""
    assert versions(past) == {1, 2, 3, 4, 5}
    assert planned(past).kept == {NAME: {6: "serves"}}


def test_what_serves_stays_however_old(past: Past) -> None:
    """A version that serves is not the newest after a rollback."""
    past.serve(1)
    assert versions(past) == {2, 3, 4, 5}


def test_warm_canary_and_shadow_stay(past: Past) -> None:
    """They answer requests, or would within moments."""
    state = past.store.desired()
    assert state is not None
    canary = Canary(version=3, share=0.1, key="header:User")
    past.store.desire(state.model_copy(update={"warm": (6, 2), "canary": canary, "shadow": 4}))
    assert versions(past) == {1, 5}
    assert planned(past).kept[NAME] == {2: "warm", 3: "canary", 4: "shadow", 6: "serves"}


def test_pinned_versions_stay(past: Past) -> None:
    """Somebody said so."""
    pin(past.store, 2)
    assert versions(past) == {1, 3, 4, 5}


def test_unreadable_pins_stop_everything(past: Past) -> None:
    """Going on without them could delete what somebody wanted kept."""
    (past.store.root / "pins.json").write_text("{", encoding="utf-8")
    with pytest.raises(RolloutError, match="pinned is not known"):
        planned(past)


def test_quarantined_versions_stay(past: Past) -> None:
    """They are evidence, and their inputs must be known again."""
    record = {
        "version": 3,
        "generation": 9,
        "fingerprint": None,
        "reason": "r",
        "by": "b",
        "at": "2026-01-01T00:00:00Z",
    }
    text = f'{{"records": [{QuarantineRecord.model_validate(record).model_dump_json()}]}}'
    (past.store.root / "quarantine.json").write_text(text, encoding="utf-8")
    assert versions(past) == {1, 2, 4, 5}


def test_versions_that_can_be_rolled_back_to_stay(past: Past) -> None:
    """As many of those that served as `retention.versions`, whatever was registered since."""
    past.serve(1, 2)
    state = past.store.desired()
    assert state is not None
    past.store.desire(state.model_copy(update={"version": 6, "warm": (6,), "previous": None}))
    assert versions(past) == {1, 3, 4, 5}


def test_a_run_that_goes_on_keeps_everything_of_its_own(past: Past) -> None:
    """Its folder, artifacts, version, spec and data stay, although its window was left since."""
    past.land(7)
    request = past.begin(7, "spec0")
    past.register(7, request)
    past.deploy("spec1")
    for month in (8, 9, 10):
        past.land(month)
    past.serve(6)
    past.clock.now += timedelta(days=300)
    items = planned(past).items
    assert 7 not in versions(past)
    assert not any("run-7" in item.name for item in items)
    assert "spec0" not in {item.name.partition(" ")[2] for item in items if item.kind is Kind.SPEC}
    gone = {str(path) for item in items for path in item.paths}
    for span in request.spans:
        assert not any(span.sha256 in path for path in gone)


def test_data_stays_while_a_run_has_not_written_its_request(past: Past) -> None:
    """What it claimed is not known yet."""
    past.land(7)
    request = past.begin(7, "spec0")
    past.home.request_path(request.run_id).unlink()
    assert {item.kind for item in planned(past).items}.isdisjoint({Kind.ENCODED, Kind.FETCHED})


def test_old_runs_go_with_their_artifacts(past: Past) -> None:
    """A run that ended 30 days ago and made a version that goes is not needed; a version's run is."""
    assert going(past, Kind.RUN) == {f"run-{month}" for month in range(1, 6)}
    assert going(past, Kind.ARTIFACTS) == {f"run-{month}" for month in range(1, 6)}
    paths = [path for item in planned(past).items if item.kind is Kind.ARTIFACTS for path in item.paths]
    assert {path.name for path in paths} == {"1", "2", "3", "4", "5"}
    assert len(paths) == 10


def test_recent_runs_stay(past: Past) -> None:
    """A task may still be cleared, and somebody may ask."""
    past.land(7)
    past.ledger.finish_run(past.begin(7, "spec0").run_id, past.ledger.runs(NAME)[-1].status)
    assert "run-7" not in going(past, Kind.RUN)


def test_artifacts_that_no_run_of_the_ledger_made_stay(past: Past) -> None:
    """What is not known is not removed."""
    past.executions["someone-else"] = past.executions.pop("run-1")
    assert going(past, Kind.ARTIFACTS) == {f"run-{month}" for month in range(2, 6)}


def test_encoded_spans_outside_the_window_go(past: Past) -> None:
    """The window is the newest two; what the kept version learnt from can be encoded again."""
    gone = {path.name[:64] for item in planned(past).items if item.kind is Kind.ENCODED for path in item.paths}
    assert gone == {past.span(month).sha256 for month in range(1, 5)}


def test_encoded_spans_of_an_earlier_schema_go(past: Past) -> None:
    """No run reads them any more."""
    folder = past.home.artifacts(NAME) / "spans"
    old = folder / f"{past.span(6).sha256}-{'0' * 12}-all"
    old.mkdir()
    assert f"{past.span(6).sha256[:12]} all" in going(past, Kind.ENCODED)


def test_copies_that_rebuild_a_kept_version_stay(past: Past) -> None:
    """`ct reproduce` of a kept version needs the bytes of its spans, also when these left the window."""
    pin(past.store, 2)
    gone = {path.stem for item in planned(past).items if item.kind is Kind.FETCHED for path in item.paths}
    assert gone == {past.span(month).sha256 for month in (3, 4)}


def test_specs_of_kept_versions_stay(past: Past) -> None:
    """The spec that trained a version rebuilds it; another that nothing uses goes once it is old."""
    past.deploy("spec1")
    past.deploy("spec2")
    past.clock.now += timedelta(days=20)
    assert {item.name for item in planned(past).items if item.kind is Kind.SPEC} == {f"{NAME} spec1"}


def test_a_spec_that_was_just_deployed_stays(past: Past) -> None:
    """A deploy moves the spec into place before it points at it."""
    past.deploy("spec1")
    past.deploy("spec2")
    assert going(past, Kind.SPEC) == set()


def test_leftovers_of_killed_processes_go_when_nobody_writes_to_them(past: Past) -> None:
    """A day is longer than any of them lives."""
    past.clock.now = datetime.now(timezone.utc)
    fresh, old = past.home.models / NAME / "versions" / ".7.a", past.home.models / NAME / "versions" / ".7.b"
    for path in (fresh, old):
        path.mkdir()
    before = (past.clock.now - LEFTOVER_AFTER - timedelta(hours=1)).timestamp()
    os.utime(old, (before, before))
    assert going(past, Kind.LEFTOVER) == {f"models/{NAME}/versions/.7.b"}


def test_a_file_with_another_link_frees_nothing(past: Past) -> None:
    """Staging links a model's files; the bytes are free when the last link goes."""
    items = [item for item in planned(past).items if item.kind is Kind.VERSION]
    own = sum(path.stat().st_size for item in items for path in item.paths[0].glob("*.json"))
    assert freed_bytes(items)[Kind.VERSION] == own
    copy = past.store.version_path(1) / "saved_model" / "other"
    copy.write_bytes(b"x" * 7)
    assert freed_bytes(items)[Kind.VERSION] == own + 7
