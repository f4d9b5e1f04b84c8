"""The archive of `ct export`: what stands in it, that the same gives the same bytes, and what the card says."""

from __future__ import annotations

import io
import json
import tarfile
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from ct.contracts import (
    Change,
    Check,
    CheckOutcome,
    Feature,
    HistoryEntry,
    Outcome,
    Proof,
    QuarantineRecord,
    Span,
    Verdict,
)
from ct.errors import CTError, UnknownVersionError
from ct.export import export
from ct.home import Home, write_atomically
from ct.rollout import ModelStore
from tests.manifests import MADE_WITH, manifest_of
from tests.verdicts import AGREEMENT, AGREES

if TYPE_CHECKING:
    from pathlib import Path

    from ct.export import Exported

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
NO_MLFLOW = "http://127.0.0.1:1"
PNG = b"\x89PNG\r\n"


def check(slice_name: str, value: float | None, *, outcome: CheckOutcome = CheckOutcome.PASS) -> Check:
    """A comparison with an interval."""
    return Check(
        name="auc better than the champion's by more than 0",
        metric="auc",
        slice=slice_name,
        value=value,
        baseline=0.70,
        threshold=0.0,
        outcome=outcome,
        difference=None if value is None else value - 0.70,
        low=0.001,
        high=0.019,
        level=0.95,
        method="DeLong",
        rows=500,
    )


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Model `trips`, version 7: served once."""
    home = Home(tmp_path / "home").create()
    store = ModelStore(home, "trips")
    saved_model = tmp_path / "model"
    (saved_model / "variables").mkdir(parents=True)
    (saved_model / "saved_model.pb").write_bytes(b"graph")
    (saved_model / "variables" / "data").write_bytes(b"weights")
    spans = tuple(
        Span(
            pipeline="trips",
            name=f"2026-0{month}",
            revision=1,
            sha256=str(month) * 64,
            uri=f"/in/{month}.csv",
            format="csv",
            size_bytes=1_500_000,
            seen_at=NOW,
        )
        for month in (1, 2)
    )
    verdict = Verdict(
        outcome=Outcome.APPROVED,
        reason="better by 0.01",
        checks=(
            check("overall", 0.71),
            check("carrier=AA", 0.69, outcome=CheckOutcome.FAIL),
            check("carrier=ZZ", None),
        ),
        champion_version=6,
        span="2026-02",
        rows=25_000,
        holdout=False,
        alpha=0.05,
    )
    manifest = manifest_of(
        "trips", 7, saved_model, features=(Feature(name="distance", dtype="float32"),), created_at=NOW
    ).model_copy(update={"spans": spans, "verdict": verdict, "refit": True, "seed": 3, "mlflow_run_id": "m"})
    store.stage(saved_model, manifest, {"instances": [{"distance": 1.0}], "predictions": [0.5]})
    for version, previous in ((7, 6), (6, 7), (5, 6)):
        entry = HistoryEntry(
            generation=20 - version,
            change=Change.ROLLOUT if version == 7 else Change.ROLLBACK,
            version=version,
            previous=previous,
            at=NOW + timedelta(days=10 - version),
            actor="ann",
            reason="why | not",
        )
        store.remember(entry)
    return store


def exported(store: ModelStore, path: Path, version: int = 7) -> Exported:
    """Export with MLflow out of reach."""
    return export(Home(store.root.parent.parent), store, version, path, mlflow_url=NO_MLFLOW)


def read(path: Path) -> dict[str, bytes]:
    """Name -> content."""
    with tarfile.open(path) as archive:
        found = {}
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
        return found


def test_the_archive_has_the_model_its_record_and_a_card(store: ModelStore, tmp_path: Path) -> None:
    """Everything below one folder, named like the version."""
    exported(store, tmp_path / "a.tar.gz")
    files = read(tmp_path / "a.tar.gz")
    assert {name.removeprefix("trips-7/") for name in files} == {
        *(
            "card.md",
            "plots/verdict.png",
            "manifest.json",
            "verdict.json",
            "verdict.html",
            "examples.json",
            "history.json",
        ),
        *("saved_model/saved_model.pb", "saved_model/variables/data"),
    }
    assert files["trips-7/saved_model/variables/data"] == b"weights"
    assert files["trips-7/plots/verdict.png"].startswith(PNG)
    assert json.loads(files["trips-7/verdict.json"])["reason"] == "better by 0.01"


def test_the_same_version_gives_the_same_bytes(store: ModelStore, tmp_path: Path) -> None:
    """Names are sorted, times are the version's, nobody owns the files: archives can be compared by their hash."""
    exported(store, tmp_path / "a.tar.gz")
    for path in store.version_path(7).rglob("*"):
        path.touch()
    exported(store, tmp_path / "b.tar.gz")
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    assert (tmp_path / "a.tar.gz").read_bytes()[4:8] == bytes(4)  # gzip's own time, which both would share by chance
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(int(NOW.timestamp()), 0, "")}


def test_what_could_not_be_had_is_said(store: ModelStore, tmp_path: Path) -> None:
    """MLflow is out of reach, the run's folder and the spec are gone: the archive is written, and says so."""
    done = exported(store, tmp_path / "a.tar.gz")
    assert [line.partition(":")[0] for line in done.missing] == ["spec/", "request.json", "mlflow.json"]
    card = read(tmp_path / "a.tar.gz")["trips-7/card.md"].decode()
    assert "Not in it:" in card
    assert NO_MLFLOW in card


def test_what_is_known_of_the_run_goes_along(store: ModelStore, tmp_path: Path) -> None:
    """The request, and what a person answered."""
    home = Home(store.root.parent.parent)
    write_atomically(home.request_path("r"), "{}")
    write_atomically(home.runs / "r" / "approval.json", "{}")
    done = exported(store, tmp_path / "a.tar.gz")
    assert {"request.json", "approval.json"} <= set(done.files)
    assert not any("request.json" in line for line in done.missing)


def test_the_card_says_what_the_gate_knew(store: ModelStore, tmp_path: Path) -> None:
    """Numbers with their intervals, the slices, what failed, and what nothing is known of."""
    exported(store, tmp_path / "a.tar.gz")
    card = read(tmp_path / "a.tar.gz")["trips-7/card.md"].decode()
    assert "**Approved**: better by 0.01." in card
    assert "| overall | 0.7100 | 0.7000 | +0.0100 | +0.0010 to +0.0190 | 95 % | 0 | 500 | DeLong |" in card
    assert "On 25,000 rows of 2026-02, against version 6 on the same rows." in card
    assert "Nothing is known of carrier=ZZ" in card
    assert "It failed auc better than the champion's by more than 0, on carrier=AA: 0.6900." in card
    assert "| 2026-02 | 1 | csv | 1.50 |" in card
    assert "its twin" in card
    assert "`ct reproduce trips 7`" in card


def test_the_pins_are_those_of_the_training_not_of_the_deployment(store: ModelStore, tmp_path: Path) -> None:
    """With ct's own version, commit and code; the spec may be gone."""
    manifest = store.manifest(7).model_copy(update={"made_with": (MADE_WITH,)})
    write_atomically(store.version_path(7) / "manifest.json", manifest.model_dump_json())
    exported(store, tmp_path / "a.tar.gz")
    files = read(tmp_path / "a.tar.gz")
    assert json.loads(files["trips-7/requirements.json"]) == MADE_WITH.requirement_hashes
    card = files["trips-7/card.md"].decode()
    assert "| ct | 0.1.0, commit `c0ffee`, code `cccccccccccc` |" in card
    assert "| requirements, training | `222222222222` |" in card


def test_the_card_tells_how_the_refit_did(store: ModelStore, tmp_path: Path) -> None:
    """In the words of `ct why`; of a withheld version also among its limits."""
    manifest = store.manifest(7).model_copy(update={"agreement": AGREEMENT})
    write_atomically(store.version_path(7) / "manifest.json", manifest.model_dump_json())
    exported(store, tmp_path / "a.tar.gz")
    card = read(tmp_path / "a.tar.gz")["trips-7/card.md"].decode()
    assert f"The refit {AGREES}." in card
    assert "withheld" not in card
    withheld = manifest.model_copy(update={"refit": False, "withheld": "its refit does not agree with it"})
    write_atomically(store.version_path(7) / "manifest.json", withheld.model_dump_json())
    exported(store, tmp_path / "b.tar.gz")
    card = read(tmp_path / "b.tar.gz")["trips-7/card.md"].decode()
    assert "| verdict | approved, withheld |" in card
    assert "- It is withheld: its refit does not agree with it. It serves only where somebody forced it" in card


def test_the_card_tells_when_the_version_served(store: ModelStore, tmp_path: Path) -> None:
    """Only the changes it had a part in; a `|` in a reason breaks no table."""
    exported(store, tmp_path / "a.tar.gz")
    files = read(tmp_path / "a.tar.gz")
    assert [entry["version"] for entry in json.loads(files["trips-7/history.json"])] == [7, 6]
    assert r"| rollout | 7 | 6 | ann | why \| not |" in files["trips-7/card.md"].decode()


def test_the_card_tells_of_proof_quarantine_and_force(store: ModelStore, tmp_path: Path) -> None:
    """What happened to the version after the gate had spoken; what people wrote cannot break the page."""
    proof = Proof(
        name="trips",
        version=7,
        champion_version=6,
        reason="32 rows agree",
        checks=(check("overall", 0.71),),
        at=NOW,
        seconds=3.0,
    )
    write_atomically(store.version_path(7) / "proof.json", proof.model_dump_json())
    record = QuarantineRecord(version=7, generation=14, fingerprints=(), reason="<b>late</b>", by="ann", at=NOW)
    write_atomically(store.root / "quarantine.json", json.dumps({"records": [record.model_dump(mode="json")]}))
    forced = HistoryEntry(
        generation=30,
        change=Change.ROLLOUT,
        version=7,
        previous=5,
        at=NOW,
        actor="bob",
        reason="must",
        forced=True,
    )
    store.remember(forced)
    exported(store, tmp_path / "a.tar.gz")
    files = read(tmp_path / "a.tar.gz")
    card = files["trips-7/card.md"].decode()
    assert "beside version 6, 2026-01-01: 32 rows agree" in card
    assert r"It was quarantined on 2026-01-01 by ann: \<b\>late\</b\>." in card
    assert "| rollout, forced | 7 | 5 | bob | must |" in card
    assert json.loads(files["trips-7/proof.json"])["seconds"] == 3.0


def test_changed_files_are_not_exported(store: ModelStore, tmp_path: Path) -> None:
    """An archive under a version's name holds that version."""
    (store.version_path(7) / "saved_model" / "extra").write_bytes(b"x")
    with pytest.raises(CTError, match="are not those that were registered"):
        exported(store, tmp_path / "a.tar.gz")
    assert not (tmp_path / "a.tar.gz").exists()


def test_an_unknown_version_writes_nothing(store: ModelStore, tmp_path: Path) -> None:
    """The error names the command that lists versions."""
    with pytest.raises(UnknownVersionError, match="ct models trips"):
        exported(store, tmp_path / "a.tar.gz", 9)
    assert list(tmp_path.glob("*.gz")) == []


def test_a_place_that_cannot_be_written_is_said(store: ModelStore, tmp_path: Path) -> None:
    """Nothing is left behind."""
    with pytest.raises(CTError, match="cannot be written: No such file"):
        exported(store, tmp_path / "nowhere" / "a.tar.gz")


def test_a_version_that_was_judged_by_nothing_still_has_a_plot(store: ModelStore, tmp_path: Path) -> None:
    """Versions from before there were checks can be exported, too."""
    manifest = manifest_of("trips", 8, store.version_path(7) / "saved_model", created_at=NOW)
    manifest = manifest.model_copy(update={"spans": store.manifest(7).spans})
    store.stage(store.version_path(7) / "saved_model", manifest, {})
    exported(store, tmp_path / "a.tar.gz", 8)
    assert io.BytesIO(read(tmp_path / "a.tar.gz")["trips-8/plots/verdict.png"]).read(6) == PNG
