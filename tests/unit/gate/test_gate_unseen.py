"""Whether the champion has learnt from the rows that it would be judged on."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from ct.contracts import Outcome, RunRequest, Span, TriggerKind, Verdict, VersionManifest
from ct.gate.unseen import learnt_from

NOW = datetime(2013, 6, 1, tzinfo=timezone.utc)


def span(name: str, sha256: str | None = None) -> Span:
    """A span whose bytes hash to its name."""
    return Span(
        pipeline="p", name=name, revision=1, sha256=sha256 or name, uri="/x", format="csv", size_bytes=1, seen_at=NOW
    )


def champion(
    *spans: Span, refit: bool, holdout: bool = False, days: int | None = 7, trained: tuple[str, ...] = ()
) -> VersionManifest:
    """A version that was made of these spans."""
    verdict = Verdict(
        outcome=Outcome.APPROVED,
        reason="",
        checks=(),
        champion_version=None,
        span=spans[-1].name,
        rows=1,
        holdout=holdout,
        holdout_days=days if holdout else None,
        trained_sha256=trained,
    )
    return VersionManifest(
        name="p",
        version=6,
        created_at=NOW,
        run_id="r",
        mlflow_run_id=None,
        features=(),
        label="y",
        spans=spans,
        refit=refit,
        verdict=verdict,
        saved_model_sha256="",
        prediction_tolerance=1e-5,
    )


def request(*spans: Span, judged_on: tuple[str, ...] = ()) -> RunRequest:
    """A run over these spans."""
    facts: dict[str, Any] = {"airflow_dag_id": "p", "airflow_run_id": "r", "mlflow_run_id": None, "seed": 1}
    return RunRequest(
        run_id="r",
        pipeline="p",
        spec_hash="0",
        trigger=TriggerKind.DATA,
        requested_at=NOW,
        spans=spans,
        new_spans=(),
        judged_on=judged_on,
        **facts,
    )


A, B, C = span("a"), span("b"), span("c")


@pytest.mark.parametrize(
    ("version", "run", "learnt"),
    [
        (champion(A, B, refit=True), request(A, B, C), ()),
        (champion(A, B, refit=True), request(A, B), ("b",)),
        (champion(A, B, refit=False), request(A, B), ()),
        (champion(A, B, refit=True), request(A, B, C, judged_on=("b", "c")), ("b",)),
        (champion(A, B, refit=True), request(A, span("b", "corrected"), C, judged_on=("b",)), ("b",)),
        (champion(A, B, C, refit=False, trained=("a", "c")), request(A, B, C), ("c",)),
        (champion(A, refit=False, holdout=True), request(A), ()),
        (champion(A, refit=False, holdout=True, days=None), request(A), ()),
        (champion(A, refit=False, holdout=True, days=8), request(A), ()),
        (champion(A, refit=False, holdout=True, days=6), request(A), ("a",)),
        (champion(A, refit=False, holdout=True), request(span("a", "corrected")), ("a",)),
        (champion(A, refit=False, holdout=True), request(B), ()),
        (champion(A, refit=True, holdout=True), request(A), ("a",)),
        (champion(A, refit=False, holdout=True), request(A, B, judged_on=("a",)), ("a",)),
    ],
    ids=[
        "a new span",
        "the same spans again, after a refit",
        "the same spans again, without a refit",
        "a span to wait with that was promoted by force",
        "a corrected span",
        "judged on one that is not the newest",
        "the last days of an only span",
        "the last days of an only span, how many is not on record",
        "fewer last days than were held out of it",
        "more last days than were held out of it",
        "the last days of a corrected only span",
        "the last days of another only span",
        "the last days of an only span, after a refit",
        "an only span, of which it had learnt the first days",
    ],
)
def test_what_the_champion_has_learnt_from_is_named(
    version: VersionManifest, run: RunRequest, learnt: tuple[str, ...]
) -> None:
    """By hash, and by name too: an earlier revision of a span has most of its rows."""
    assert learnt_from(version, run, holdout_days=7) == learnt
