"""The model card: what a version is for, what it learnt from, how it was judged, where it fails, and when it served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct.contracts import CheckOutcome, DeployedSpec, HistoryEntry, Proof, QuarantineRecord, VersionManifest
from ct.export.plots import plot_checks
from ct.verdict_page.words import OVERALL, answered, cells, judged_on, number, refitted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ct.contracts import Check

CARD, PLOT = "card.md", "plots/verdict.png"
NONE = "-"
SHORT = 12
WEAK_SLICES = 3


@dataclass(frozen=True)
class Subject:
    """What a card is about."""

    manifest: VersionManifest
    spec: DeployedSpec | None
    """None when the spec is not kept any more."""
    history: tuple[HistoryEntry, ...]
    proof: Proof | None
    quarantine: tuple[QuarantineRecord, ...]
    """Of this version, lifted ones too."""
    files: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def champion(self) -> str:
        version = self.manifest.verdict.champion_version
        return NONE if version is None else f"version {version}"


def write_card(subject: Subject) -> tuple[bytes, bytes]:
    """The card as Markdown, and its plot as PNG."""
    sections = (
        _head(subject),
        _intended_use(subject),
        _data(subject),
        _judged(subject),
        _slices(subject),
        _proof(subject),
        _limits(subject),
        _serving(subject),
        _reproduce(subject),
        _archive(subject),
    )
    text = "\n\n".join("\n".join(section).strip("\n") for section in sections) + "\n"
    return text.encode("utf-8"), plot_checks(subject.manifest.verdict)


def requirements_of(manifest: VersionManifest, spec: DeployedSpec | None) -> dict[str, str]:
    """Plane -> hash of its pins as the version was trained; of versions from before that was on record, as it was deployed."""
    if manifest.made_with:
        return manifest.made_with[-1].requirement_hashes
    return spec.requirement_hashes if spec else {}


def plain(text: str) -> str:
    """Text that somebody wrote, or that the data holds, as Markdown shows it literally."""
    for character in "\\`*_[]<>|":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def _head(subject: Subject) -> Iterator[str]:
    manifest, config = subject.manifest, subject.spec.config if subject.spec else {}
    yield f"# {manifest.name} {manifest.version}"
    if config:
        yield ""
        yield f"{config['description']}."
    yield from _table(
        ("", ""),
        [
            ("predicts", f"`{manifest.label}`"),
            ("owner", config.get("owner", NONE)),
            ("made", f"{manifest.created_at:%Y-%m-%d %H:%M} UTC, run `{manifest.run_id}`"),
            ("verdict", manifest.verdict.outcome.value + (", withheld" if manifest.withheld else "")),
            ("approval", _approval(manifest)),
            ("trained on", f"{len(manifest.spans)} spans, {_window(manifest)}{_without_judged(manifest)}"),
        ],
    )


def _intended_use(subject: Subject) -> Iterator[str]:
    yield "## Intended use"
    yield ""
    if subject.spec is None:
        yield "The pipeline's README is not kept in this home any more."
        return
    for line in subject.spec.readme.strip().splitlines():
        yield f"##{line}" if line.startswith("#") else line  # its title stands below this heading


def _data(subject: Subject) -> Iterator[str]:
    manifest = subject.manifest
    yield "## Data"
    yield from _table(
        ("span", "revision", "format", "MB", "sha256", "seen", "used to"),
        [
            (
                span.name,
                span.revision,
                span.format,
                f"{span.size_bytes / 1e6:.2f}",
                f"`{span.sha256[:SHORT]}`",
                f"{span.seen_at:%Y-%m-%d}",
                _use_of(manifest, span.sha256, newest=span is manifest.spans[-1]),
            )
            for span in manifest.spans
        ],
    )


def _judged(subject: Subject) -> Iterator[str]:
    manifest, verdict = subject.manifest, subject.manifest.verdict
    yield "## How it was judged"
    yield ""
    yield f"**{verdict.outcome.value.capitalize()}**: {plain(verdict.reason)}."
    yield ""
    sure = "" if verdict.alpha is None else f" A false pass has a chance of at most {verdict.alpha:g}."
    yield (
        f"On {judged_on(verdict)}, against {subject.champion} on the same rows.{sure} "
        "A difference above 0 says that this model is better."
    )
    if manifest.refit:
        yield "The numbers are of its twin, which had not learnt from these rows; this model was trained once more with them."
    yield from (f"The refit {told}." for _, told in refitted(manifest.agreement, manifest.withheld))
    yield from _checks([check for check in verdict.checks if check.slice == OVERALL])
    yield ""
    yield f"![every check with its interval]({PLOT})"


def _slices(subject: Subject) -> Iterator[str]:
    checks = [check for check in subject.manifest.verdict.checks if check.slice != OVERALL]
    if not checks:
        return
    yield "## Slices"
    yield from _checks(checks)


def _proof(subject: Subject) -> Iterator[str]:
    proof = subject.proof
    if proof is None:
        return
    yield "## Proof of the artifact"
    yield ""
    beside = "" if proof.champion_version is None else f", beside version {proof.champion_version}"
    yield f"The very service was started on these very files{beside}, {proof.at:%Y-%m-%d}: {plain(proof.reason)}"
    yield from _checks(proof.checks)


def _limits(subject: Subject) -> Iterator[str]:
    manifest, verdict = subject.manifest, subject.manifest.verdict
    checks = verdict.checks
    yield "## Limits"
    yield ""
    if manifest.withheld is not None:
        yield f"- It is withheld: {plain(manifest.withheld)}. It serves only where somebody forced it, which its history says."
    elif not manifest.may_serve:
        yield "- The gate did not approve it. It serves only where somebody forced it, which its history says."
    for record in subject.quarantine:
        lifted = f"; lifted by {plain(record.lifted.by)}: {plain(record.lifted.reason)}" if record.lifted else ""
        yield f"- It was quarantined on {record.at:%Y-%m-%d} by {plain(record.by)}: {plain(record.reason)}{lifted}."
    yield f"- It knows the world as of {manifest.spans[-1].name}; what changed since, it has not seen."
    yield f"- It was judged on {verdict.span} alone. The intervals are about chance within these rows, not about other months."
    if verdict.holdout:
        yield "- These rows are the last days of its only span: the nearest to what it learnt from, so the numbers flatter it."
    failed = [check for check in checks if check.outcome is CheckOutcome.FAIL]
    yield from (f"- It failed {plain(check.name)}, on {plain(check.slice)}: {number(check.value)}." for check in failed)
    weak = sorted((check for check in checks if check.slice != OVERALL and check.value is not None), key=_value)
    low = [
        f"{check.slice} {check.metric} {number(check.value)}"
        for check in weak[:WEAK_SLICES]
        if check.metric == checks[0].metric
    ]
    if low:
        yield f"- Lowest slices: {', '.join(dict.fromkeys(low))}."
    unknown = sorted({check.slice for check in checks if check.value is None and check.slice != OVERALL})
    if unknown:
        yield f"- Nothing is known of {plain(', '.join(unknown))}: too few rows, or one class only."
    features = ", ".join(f"`{feature.name}` ({feature.dtype})" for feature in manifest.features)
    yield f"- It needs every one of its features: {features or 'its signature names none'}."
    yield f"- Served predictions may differ from those in `examples.json` by {manifest.prediction_tolerance:g}."


def _serving(subject: Subject) -> Iterator[str]:
    yield "## History of serving"
    if not subject.history:
        yield ""
        yield "It has never served."
        return
    yield from _table(
        ("when", "change", "served then", "before", "who", "why"),
        [
            (
                f"{entry.at:%Y-%m-%d %H:%M}",
                _change(entry),
                entry.version,
                entry.previous or NONE,
                plain(entry.actor),
                plain(entry.reason),
            )
            for entry in subject.history
        ],
    )


def _reproduce(subject: Subject) -> Iterator[str]:
    manifest, spec = subject.manifest, subject.spec
    yield "## How to reproduce"
    yield ""
    yield f"`ct reproduce {manifest.name} {manifest.version}` builds it again from this record and compares the predictions."
    rows = [
        ("spec", f"`{manifest.spec_hash or NONE}`"),
        ("code commit", f"`{spec.code_commit or 'unknown'}`" if spec else NONE),
        *(
            ("ct", f"{made.version}, commit `{made.commit or 'unknown'}`, code `{made.code_sha256[:SHORT]}`")
            for made in manifest.made_with
        ),
        ("seed", manifest.seed),
        ("data", f"`{manifest.fingerprint[:SHORT]}` over the spans' hashes, recipe and seed"),
        *(
            (f"requirements, {plane}", f"`{sha256[:SHORT]}`")
            for plane, sha256 in requirements_of(manifest, spec).items()
        ),
        ("model files", f"`{manifest.saved_model_sha256[:SHORT]}`"),
    ]
    yield from _table(("", ""), rows)


def _archive(subject: Subject) -> Iterator[str]:
    yield "## In this archive"
    yield ""
    tops = dict.fromkeys(name.partition("/")[0] + ("/" if "/" in name else "") for name in subject.files)
    yield ", ".join(f"`{name}`" for name in tops)
    if subject.missing:
        yield ""
        yield "Not in it:"
        yield ""
        yield from (f"- {line}" for line in subject.missing)


def _checks(checks: Sequence[Check]) -> Iterator[str]:
    rows = [[plain(text) for text in cells(check).values()] for check in checks]
    yield from _table(list(cells(checks[0])) if checks else (), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    yield ""
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"


def _value(check: Check) -> float:
    return float("inf") if check.value is None else check.value


def _window(manifest: VersionManifest) -> str:
    return f"{manifest.spans[0].name} to {manifest.spans[-1].name}"


def _without_judged(manifest: VersionManifest) -> str:
    return "" if manifest.refit else f", {manifest.verdict.span} left out to judge on"


def _use_of(manifest: VersionManifest, sha256: str, *, newest: bool) -> str:
    judged = sha256 in manifest.verdict.judged_sha256 if manifest.verdict.judged_sha256 else newest
    if not judged:
        return "train"
    return "judge its twin, then train" if manifest.refit else "judge"


def _change(entry: HistoryEntry) -> str:
    return f"{entry.change.value}, forced" if entry.forced else entry.change.value


def _approval(manifest: VersionManifest) -> str:
    answer = manifest.approval
    if answer is None:
        return "nobody was asked"
    return f"{answered(answer)} by {plain(answer.by)}, {answer.at:%Y-%m-%d %H:%M} UTC: {plain(answer.reason)}"
