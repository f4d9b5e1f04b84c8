"""What is on record of one verdict, gathered from the model store and the run's folder for `ct why`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ct.cli.runs import waits_for_person
from ct.errors import CTError, UnknownVersionError

if TYPE_CHECKING:
    from ct.contracts import Approval, HistoryEntry, Proof, QuarantineRecord, RefitAgreement, Span, Verdict
    from ct.home import Home
    from ct.rollout import ModelStore

VERSIONS_NAMED = 10


@dataclass(frozen=True)
class Judged:
    """All that is on record of one verdict."""

    name: str
    version: int | None
    run_id: str
    verdict: Verdict
    approval: Approval | None
    spans: tuple[Span, ...] = ()
    refit: bool = False
    agreement: RefitAgreement | None = None
    """Of refit and candidate, where there was a refit."""
    withheld: str | None = None
    """Why the candidate may not serve although it was approved."""
    spec_hash: str | None = None
    waits: bool = False
    """Whether a person is asked, and has not answered."""
    serving: int | None = None
    forced: tuple[HistoryEntry, ...] = ()
    """Each time that a person let it serve against the gate."""
    quarantined: QuarantineRecord | None = None
    """In force, or lifted."""
    proof: Proof | None = None

    @property
    def json(self) -> dict[str, Any]:
        """The same for scripts."""
        return {
            "name": self.name,
            "version": self.version,
            "run_id": self.run_id,
            "outcome": self.verdict.outcome.value,
            "reason": self.verdict.reason,
            "approval": self.approval.model_dump(mode="json") if self.approval else None,
            "waits_for_person": self.waits,
            "serving": self.serving,
            "forced": [entry.model_dump(mode="json") for entry in self.forced],
            "quarantined": self.quarantined.model_dump(mode="json") if self.quarantined else None,
            "verdict": self.verdict.model_dump(mode="json"),
            "proof": self.proof.model_dump(mode="json") if self.proof else None,
            "spans": [span.model_dump(mode="json") for span in self.spans],
            "refit": self.refit,
            "agreement": self.agreement.model_dump(mode="json") if self.agreement else None,
            "withheld": self.withheld,
            "spec_hash": self.spec_hash,
        }


def of_version(store: ModelStore, version: int | None) -> Judged:
    """What is on record of a version; None for the newest.

    Raises:
        UnknownVersionError: there is no such version.
    """
    from ct.rollout import forced_of  # noqa: PLC0415

    versions = store.versions()
    if not versions or (version is not None and version not in versions):
        there = ", ".join(map(str, versions[-VERSIONS_NAMED:])) or "none yet"
        asked = "any version" if version is None else f"version {version}"
        raise UnknownVersionError(
            f'The model store does not have {asked} of "{store.name}" (versions: {there}). `ct models {store.name}` says what '
            f"each does; `ct why {store.name} --run RUN` shows the verdict of a run, and `ct runs {store.name}` lists those.",
            name=store.name,
            version=version,
            versions=list(versions),
        )
    manifest = store.manifest(versions[-1] if version is None else version)
    desired = store.desired()
    return Judged(
        name=store.name,
        version=manifest.version,
        run_id=manifest.run_id,
        verdict=manifest.verdict,
        approval=manifest.approval,
        spans=manifest.spans,
        refit=manifest.refit,
        agreement=manifest.agreement,
        withheld=manifest.withheld,
        spec_hash=manifest.spec_hash,
        serving=desired.version if desired else None,
        forced=forced_of(store.history(), manifest.version),
        quarantined=store.quarantine_record(manifest.version),
        proof=store.proof(manifest.version),
    )


def of_run(home: Home, name: str, run_id: str) -> Judged:
    """What is on record of a run's verdict.

    Raises:
        CTError: the run has none.
    """
    from ct.triggers.ledger import Ledger  # noqa: PLC0415
    from ct.verdict_page.record import agreement_of, approval_of, verdict_of, version_of, withheld_of  # noqa: PLC0415

    home.check_layout()
    verdict = verdict_of(home, run_id)
    if verdict is None:
        raise CTError(
            f"Run {run_id} has no verdict: there is no such run, or it ended before its gate had judged. "
            f"`ct runs {name}` lists the runs of {name} and how they ended.",
            name=name,
            run_id=run_id,
        )
    run = Ledger.open(home).run(run_id)
    return Judged(
        name=name,
        version=version_of(home, run_id),
        run_id=run_id,
        verdict=verdict,
        approval=approval_of(home, run_id),
        agreement=agreement_of(home, run_id),
        withheld=withheld_of(home, run_id),
        waits=run is not None and waits_for_person(home, run) is not None,
    )
