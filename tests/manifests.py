"""The manifest of a version, for tests that need one and care for little of it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ct.contracts import Outcome, Verdict, VersionManifest
from ct.rollout import tree_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from ct.contracts import Feature

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
        verdict=VERDICT.model_copy(update={"outcome": outcome}),
        saved_model_sha256=tree_sha256(saved_model),
        prediction_tolerance=1e-5,
        seed=seed,
    )
