"""The manifest and the proof of a version, for tests that need one and care for little of it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ct.contracts import Check, CheckOutcome, MadeWith, Outcome, Proof, Verdict, VersionManifest
from ct.home import write_atomically
from ct.rollout import tree_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from ct.contracts import Feature
    from ct.rollout import ModelStore

MADE_WITH = MadeWith(
    version="0.1.0",
    code_sha256="c" * 64,
    commit="c0ffee",
    requirement_hashes={"control": "1" * 64, "training": "2" * 64},
)
VERDICT = Verdict(outcome=Outcome.APPROVED, reason="", checks=(), champion_version=None, span="s", rows=1, holdout=True)


def manifest_of(
    name: str,
    version: int,
    saved_model: Path,
    *,
    features: tuple[Feature, ...] = (),
    created_at: datetime | None = None,
    outcome: Outcome = Outcome.APPROVED,
    seed: int | None = None,
    judged_against: int | None = None,
) -> VersionManifest:
    """A version whose files are those of `saved_model`; approved where nothing else is said."""
    return VersionManifest(
        name=name,
        version=version,
        created_at=created_at or datetime.now(timezone.utc),
        run_id="r",
        mlflow_run_id=None,
        features=features,
        label="late",
        spans=(),
        refit=False,
        verdict=VERDICT.model_copy(update={"outcome": outcome, "champion_version": judged_against}),
        saved_model_sha256=tree_sha256(saved_model),
        prediction_tolerance=1e-5,
        seed=seed,
    )


def write_proof(store: ModelStore, version: int, *, passed: bool = True, metric: str = "p99_ms") -> None:
    """As if the version had been proven, in the service that would serve it."""
    outcome = CheckOutcome.PASS if passed else CheckOutcome.FAIL
    check = Check(name=f"{metric} at most 2", metric=metric, value=1.0, threshold=2.0, outcome=outcome)
    reason = "p99 1.0 ms" if passed else "p99 9.0 ms, above 2 times the champion's"
    proof = Proof(
        name=store.name,
        version=version,
        champion_version=None,
        reason=reason,
        checks=(check,),
        at=datetime.now(timezone.utc),
        seconds=1.0,
    )
    write_atomically(store.version_path(version) / "proof.json", proof.model_dump_json())
