"""`ct why` as a shell sees it: what a version's verdict rests on, and what became of it since."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click
import pytest

from ct.cli.judged import of_version
from ct.cli.main import cli
from ct.cli.why import lines_of
from ct.contracts import (
    Approval,
    Change,
    Check,
    CheckOutcome,
    DesiredState,
    HistoryEntry,
    Lift,
    NodeResult,
    Outcome,
    Proof,
    QuarantineRecord,
    RefitAgreement,
    Span,
)
from ct.errors import ConfigError, CTError, UnknownVersionError
from ct.home import Home, write_atomically
from ct.rollout import ModelStore
from tests.manifests import manifest_of
from tests.verdicts import AGREEMENT, AGREES, JUDGED, TRAINED, WITHHELD, verdict_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
APPROVAL = Approval(approved=False, by="ada", at=NOW, reason="the strike of May is in it")


def span(name: str, sha256: str) -> Span:
    """A span of these bytes."""
    uri = f"/in/{name}.csv"
    return Span(
        pipeline="trips", name=name, revision=1, sha256=sha256, uri=uri, format="csv", size_bytes=1, seen_at=NOW
    )


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Version 6 serves; 7 was refused; 8 was inconclusive and a person said no."""
    home = Home(tmp_path / "home").create()
    store = ModelStore(home, "trips")
    saved_model = tmp_path / "model"
    saved_model.mkdir()
    outcomes = {6: Outcome.APPROVED, 7: Outcome.REFUSED, 8: Outcome.INCONCLUSIVE}
    for version, outcome in outcomes.items():
        manifest = manifest_of("trips", version, saved_model, created_at=NOW)
        more = {
            "verdict": verdict_with(outcome=outcome),
            "spans": (span("2013-05", TRAINED[0]), span("2013-06", JUDGED)),
            "approval": APPROVAL if version == 8 else None,
        }
        store.stage(saved_model, manifest.model_copy(update=more), {})
    store.desire(DesiredState(name="trips", generation=1, version=6, previous=None, warm=(6,)))
    return store


@pytest.fixture
def ct(store: ModelStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in this process; returns its standard output."""
    monkeypatch.setenv("CT_HOME", str(store.root.parent.parent))

    def run(*arguments: str) -> str:
        capsys.readouterr()
        cli.main(list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    return run


def test_why_shows_every_check_with_its_numbers(ct: Callable[..., str]) -> None:
    """Value, baseline, difference, interval, level, limit, rows, method; hashes, seed and alpha; the outcome first."""
    shown = ct("why", "trips", "7")
    lines = shown.splitlines()
    assert lines[0] == "trips version 7: refused; version 6 serves now"
    assert lines[1] == "Refused: what serves now serves on."
    assert "worse by 0.0800 fails" in lines[2]
    for fact in (JUDGED, *TRAINED, "alpha 0.05", "seed 7", "28,000 rows of 2013-06, against version 6"):
        assert fact in shown
    assert f"{JUDGED}  2013-06" in shown
    (row,) = [line for line in lines if "carrier=C00" in line and "DeLong" in line]
    for number in ("fail", "0.6200", "0.7000", "-0.0800", "-0.1000 to -0.0600", "99.83 %", "-0.05", "900"):
        assert number in row
    recorded = lines[lines.index("recorded only (1)") + 1 :]
    assert recorded[0].split() == ["outcome", "check", "on", "value", "champion", "interval", "level", "rows", "method"]
    assert recorded[1].strip().startswith("recorded  brier, for the monitor  overall  0.1700    0.1800")
    titles = [line for line in lines if line.endswith(")") and not line.startswith(" ") and "(" in line]
    assert titles == ["checks that decide (3)", "slices (3)", "recorded only (1)"]


def test_columns_are_aligned_and_without_colour_where_nobody_looks(ct: Callable[..., str]) -> None:
    """So that `grep` and `cut` find them."""
    shown = ct("why", "trips", "7")
    assert "\x1b" not in shown
    lines = shown.splitlines()
    header = next(line for line in lines if line.startswith("  outcome"))
    first = lines[lines.index(header) + 1]
    assert header.index("check") == first.index("auc at least 0.6")
    assert header.index("rows") + len("rows") == first.index("28,000") + len("28,000")


def test_colours_are_for_a_terminal(store: ModelStore) -> None:
    """They are taken out elsewhere; the widths do not count them."""
    lines = list(lines_of(of_version(store, 7)))
    assert "\x1b[31m" in "\n".join(lines)
    (header,) = [line for line in lines if line.startswith("  outcome") and "method" in line and "limit" in line][:1]
    row = click.unstyle(next(line for line in lines if "\x1b[32mpass" in line))
    assert header.index("check") == row.index("auc at least 0.6")


def test_without_a_version_it_is_the_newest_one(ct: Callable[..., str]) -> None:
    """Refused or not: that is the one that people ask about."""
    shown = ct("why", "trips")
    assert shown.startswith("trips version 8: inconclusive; version 6 serves now")
    assert "and ada rejected it" in shown
    assert "rejected by ada, 2026-03-01 12:00 UTC: the strike of May is in it" in shown
    assert ct("why", "trips", "6").startswith("trips version 6: approved; it serves now")


def test_what_became_of_a_version_is_told_too(store: ModelStore, ct: Callable[..., str]) -> None:
    """That it was forced, by whom and why; its quarantine, and who lifted it; how its proof went."""
    forced = HistoryEntry(
        generation=1,
        change=Change.ROLLOUT,
        version=7,
        previous=6,
        at=NOW,
        actor="bob",
        reason="the old one is down",
        forced=True,
    )
    store.remember(forced)
    store.remember(forced.model_copy(update={"generation": 2, "forced": False, "actor": "carol"}))
    record = QuarantineRecord(
        version=7,
        generation=2,
        fingerprints=("f",),
        reason="errors",
        by="eve",
        at=NOW,
        lifted=Lift(at=NOW + timedelta(hours=1), by="ada", reason="it was the network"),
    )
    write_atomically(store.root / "quarantine.json", f'{{"records": [{record.model_dump_json()}]}}')
    check = Check(name="p99_ms at most 2 times", metric="p99_ms", value=3, threshold=6, outcome=CheckOutcome.PASS)
    proof = Proof(name="trips", version=7, champion_version=6, reason="all agree", checks=(check,), at=NOW, seconds=2)
    write_atomically(store.version_path(7) / "proof.json", proof.model_dump_json())
    shown = ct("why", "trips", "7")
    assert "carol" not in shown
    assert "forced      by bob, 2026-03-01 12:00 UTC: the old one is down" in shown
    assert "quarantined by eve, 2026-03-01 12:00 UTC: errors" in shown
    assert "lifted      by ada, 2026-03-01 13:00 UTC: it was the network" in shown
    assert "proof       passed: all agree" in shown
    assert "proof of the served artifact (1)" in shown
    told = json.loads(ct("why", "trips", "7", "--json"))
    assert (told["forced"][0]["actor"], told["quarantined"]["by"]) == ("bob", "eve")
    assert "bob" not in ct("why", "trips", "6")


def test_how_a_refit_did_beside_its_twin_is_told(store: ModelStore, ct: Callable[..., str]) -> None:
    """In the words of the page, and as JSON; of a run too."""
    restage(store, 6, agreement=AGREEMENT, refit=True)
    assert f"refit       {AGREES}\n" in ct("why", "trips", "6")
    told = json.loads(ct("why", "trips", "6", "--json"))
    assert RefitAgreement.model_validate(told["agreement"]) == AGREEMENT
    assert told["withheld"] is None
    assert "refit  " not in ct("why", "trips", "7")
    facts = {"verdict": verdict_with().model_dump(mode="json")}
    registered = {"version": 6, "agreement": AGREEMENT.model_dump(mode="json"), "withheld": None}
    for node_id, found in (("Gate", facts), ("Register", registered)):
        result = NodeResult(node_id=node_id, ok=True, seconds=1, peak_rss_mb=1, facts=found)
        path = Home(store.root.parent.parent).runs / "trips-1" / f"{node_id}.result.json"
        write_atomically(path, result.model_dump_json())
    assert f"refit       {AGREES}\n" in ct("why", "trips", "--run", "trips-1")


def test_a_withheld_version_is_approved_and_says_why_it_does_not_serve(
    store: ModelStore, ct: Callable[..., str]
) -> None:
    """In the first line, in words, and in the list of versions."""
    restage(store, 6, agreement=AGREEMENT, withheld=WITHHELD)
    lines = ct("why", "trips", "6").splitlines()
    assert lines[0].startswith("trips version 6: approved, withheld")
    assert lines[1] == f"Withheld: the candidate passed the gate, and {WITHHELD}."
    assert any(line.startswith("refit       does not agree with its twin, which is this version,") for line in lines)
    assert json.loads(ct("why", "trips", "6", "--json"))["withheld"] == WITHHELD
    assert "approved, withheld" in ct("models", "trips")


def restage(store: ModelStore, version: int, **more: object) -> None:
    """The version with more on record."""
    manifest = store.manifest(version).model_copy(update=more)
    write_atomically(store.version_path(version) / "manifest.json", manifest.model_dump_json())


def test_json_has_everything(ct: Callable[..., str]) -> None:
    """The verdict as it is stored, and who answered."""
    told: dict[str, Any] = json.loads(ct("why", "trips", "8", "--json"))
    assert (told["version"], told["outcome"], told["serving"]) == (8, "inconclusive", 6)
    assert told["approval"]["by"] == "ada"
    assert told["verdict"]["judged_sha256"] == [JUDGED]
    assert len(told["verdict"]["checks"]) == 7


def test_a_run_without_a_version_has_a_verdict_all_the_same(store: ModelStore, ct: Callable[..., str]) -> None:
    """Refused candidates of earlier versions of ct have none."""
    facts = {"verdict": verdict_with().model_dump(mode="json")}
    result = NodeResult(node_id="Gate", ok=True, seconds=1, peak_rss_mb=1, facts=facts)
    home = Home(store.root.parent.parent)
    write_atomically(home.runs / "trips-1" / "Gate.result.json", result.model_dump_json())
    assert ct("why", "trips", "--run", "trips-1").startswith("trips the candidate of run trips-1: refused")
    with pytest.raises(CTError, match="Run trips-2 has no verdict"):
        ct("why", "trips", "--run", "trips-2")
    with pytest.raises(CTError, match="no verdict"):
        ct("why", "trips", "--run", "../models/trips")


def test_an_unknown_version_or_model_names_those_that_there_are(ct: Callable[..., str]) -> None:
    """And says where else to look."""
    with pytest.raises(
        UnknownVersionError, match=r'does not have version 9 of "trips" \(versions: 6, 7, 8\)'
    ) as raised:
        ct("why", "trips", "9")
    assert raised.value.facts["versions"] == [6, 7, 8]
    with pytest.raises(ConfigError, match="did you mean `trips`"):
        ct("why", "tirps")
    with pytest.raises(click.UsageError):
        ct("why", "trips", "7", "--run", "trips-1")
