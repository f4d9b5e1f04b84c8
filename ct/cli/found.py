"""What the validator found, read from what a run or `ct data` left on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ct.home import Home
    from ct.training.findings import Finding, LookedAt, Validation
    from ct.triggers.ledger import Ledger

RUNS_LOOKED_AT = 1000
VALIDATOR = "ExampleValidator"


@dataclass(frozen=True)
class Found:
    """Findings, and where they come from."""

    by: str
    """`run <run_id>`, or `ct data <pipeline> <span>`."""
    findings: tuple[Finding, ...]
    """One a finding's id: the same finding in another split is left out."""


def newest_found(home: Home, ledger: Ledger, pipeline: str) -> tuple[Found, ...]:
    """The findings of the newest run that found any, and what only `ct data` has found since."""
    places: list[Found] = []
    for run in ledger.runs(pipeline, limit=RUNS_LOOKED_AT):
        validation = validation_of(home, run.run_id)
        if validation is not None and validation.findings:
            places.append(Found(f"run {run.run_id}", _one_an_id(validation.findings)))
            break
    looked = read_looked_at(home, pipeline)
    known = {finding.id for place in places for finding in place.findings}
    new = tuple(finding for finding in looked.validation.findings if finding.id not in known) if looked else ()
    if looked and new:
        places.append(Found(f"ct data {pipeline} {looked.span}", _one_an_id(new)))
    return tuple(places)


def validation_of(home: Home, run_id: str) -> Validation | None:
    """What the validator of a run found; None when it has not run, or stood before there were findings."""
    from ct.contracts import NodeResult  # noqa: PLC0415
    from ct.training.findings import Validation  # noqa: PLC0415

    path = home.request_path(run_id).with_name(f"{VALIDATOR}.result.json")
    if not path.exists():
        return None
    facts = NodeResult.model_validate_json(path.read_text(encoding="utf-8")).facts
    return (
        Validation.model_validate({name: facts[name] for name in Validation.model_fields}) if "drift" in facts else None
    )


def looked_at_path(home: Home, pipeline: str) -> Path:
    """Where `ct data` keeps its newest LookedAt."""
    return home.artifacts(pipeline) / "statistics" / "looked-at.json"


def read_looked_at(home: Home, pipeline: str) -> LookedAt | None:
    """The newest answer of `ct data` about a span that no run had validated, or None."""
    from ct.training.findings import LookedAt  # noqa: PLC0415

    path = looked_at_path(home, pipeline)
    return LookedAt.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else None


def _one_an_id(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple({finding.id: finding for finding in findings}.values())
