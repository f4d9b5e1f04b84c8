"""What is checked of a version before it serves, each as a check on record and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ct.contracts import Check, CheckOutcome
from ct.rollout import tree_sha256
from serving.proof.client import AnswerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ct.contracts import VersionManifest
    from serving.proof.client import Client
    from serving.proof.rounds import Latency

BATCH_ROWS = 512
SINGLE_ROWS = 32
"""Rows that are asked for one by one too: batches of one take another way through TensorFlow's kernels."""
MEMORY_FLOOR_MB = 16.0
"""A champion that takes less counts as this: below, the allocator's own slack decides."""
SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Found:
    """A check, and in words what it found."""

    check: Check
    said: str

    @property
    def blocks(self) -> bool:
        """Whether the version may not serve because of it."""
        return self.check.blocking and self.check.outcome is not CheckOutcome.PASS


def files(manifest: VersionManifest, folder: Path) -> Found:
    """Whether the folder's SavedModel is, to the byte, the one that was registered."""
    found = tree_sha256(folder / "saved_model")
    same = found == manifest.saved_model_sha256
    said = (
        "the files are those that were registered"
        if same
        else f"the files in {folder / 'saved_model'} are not those that were registered: their hash is "
        f"{found[:SHOWN_DIGITS]}, the manifest's {manifest.saved_model_sha256[:SHOWN_DIGITS]}"
    )
    return Found(_check("files are those that were registered", "saved_model_sha256", 0.0, good=same), said)


def contract(
    client: Client,
    candidate: VersionManifest,
    champion: VersionManifest,
    sent: Sequence[dict[str, Any]],
    *,
    allow_incompatible: bool,
) -> Found:
    """Whether the candidate answers what the champion's clients send: they will go on sending it.

    Args:
        client: of the candidate.
        candidate: its manifest.
        champion: the champion's.
        sent: rows that the champion answers.
        allow_incompatible: record it only.
    """
    ours = {(feature.name, feature.dtype) for feature in champion.features}
    theirs = {(feature.name, feature.dtype) for feature in candidate.features}
    differ = [
        *(f"{name} ({dtype}) is new" for name, dtype in sorted(theirs - ours)),
        *(f"{name} ({dtype}) is gone" for name, dtype in sorted(ours - theirs)),
    ]
    try:
        client.predict(sent)
    except AnswerError as error:
        good, said = False, f"it refuses what clients of version {champion.version} send: {error}"
    else:
        good, said = True, f"it answers what clients of version {champion.version} send"
    check = _check(
        f"answers what clients of version {champion.version} send", "features_that_differ", 0.0, good=good
    ).model_copy(update={"value": float(len(differ)), "blocking": not allow_incompatible, "rows": len(sent)})
    return Found(check, "; ".join([said, *differ]))


def not_taken(why: str) -> Found:
    """The service did not load the version, or refused it."""
    return Found(_check("the service takes it", "loads", 0.0, good=False), f"the service did not take it: {why}")


def not_compared(champion: int, why: str) -> Found:
    """The champion cannot be measured, which says nothing against the candidate."""
    name = f"p99 and memory beside version {champion}"
    check = Check(
        name=name, metric="champion", value=None, threshold=0.0, outcome=CheckOutcome.INCONCLUSIVE, blocking=False
    )
    return Found(check, f"there are no numbers of version {champion} to compare with: {why}")


def agreement(client: Client, rows: Mapping[str, list[Any]], tolerance: float) -> Found:
    """Replay rows over HTTP and compare with what was predicted offline.

    Args:
        client: of the candidate.
        rows: `{"instances": [...], "predictions": [...]}`.
        tolerance: largest absolute difference.
    """
    instances, offline = rows["instances"], np.asarray(rows["predictions"], np.float64)
    batches = [instances[begin : begin + BATCH_ROWS] for begin in range(0, len(instances), BATCH_ROWS)]
    singles = [[instance] for instance in instances[:SINGLE_ROWS]]
    metric, name = "prediction_difference", f"served predictions are within {tolerance:g} of those computed offline"
    try:
        served = np.concatenate([client.predict(some) for some in (*batches, *singles)])
    except AnswerError as error:
        return Found(_check(name, metric, tolerance, good=False), f"it did not answer rows of the newest span: {error}")
    expected = np.concatenate([offline, offline[: len(singles)]])
    difference = np.abs(served - expected)
    difference[np.isnan(difference)] = np.inf
    place = int(np.argmax(difference))
    largest, row = float(difference[place]), place if place < len(instances) else place - len(instances)
    good = largest <= tolerance
    said = f"served predictions of {len(instances):,} rows differ from those computed offline by at most {largest:.2g}"
    if not good:
        said = (
            f"the served prediction of row {row} is {served[place]:.6f}, offline it was {expected[place]:.6f}; "
            f"{tolerance:g} is allowed"
        )
    check = _check(name, metric, tolerance, good=good, value=largest if np.isfinite(largest) else None)
    return Found(check.model_copy(update={"method": "replayed over HTTP", "rows": len(instances)}), said)


def latency(measured: Latency, ratio: float, champion: int) -> Found:
    """Whether single rows are answered about as quickly as by the champion."""
    candidate_ms, champion_ms, limit_ms = measured.candidate_ms, measured.champion_ms, measured.limit_ms(ratio)
    gain = measured.gain_ms()
    check = _check(
        f"p99 at most {ratio:g} times the champion's",
        "p99_ms",
        limit_ms,
        good=candidate_ms <= limit_ms,
        value=candidate_ms,
    ).model_copy(
        update={
            "baseline": champion_ms,
            "difference": gain.median,
            "low": gain.low,
            "high": gain.high,
            "level": gain.level,
            "method": f"median of {len(measured.candidate)} alternating rounds",
            "rows": measured.requests,
        }
    )
    return Found(check, _compared("p99", "ms", candidate_ms, champion_ms, limit_ms, champion))


def memory(candidate_mb: float, champion_mb: float, ratio: float, champion: int) -> Found:
    """Whether loading it takes about as much resident memory as loading the champion."""
    limit_mb = ratio * max(champion_mb, MEMORY_FLOOR_MB)
    check = _check(
        f"memory at most {ratio:g} times the champion's",
        "memory_mb",
        limit_mb,
        good=candidate_mb <= limit_mb,
        value=candidate_mb,
    ).model_copy(update={"baseline": champion_mb, "difference": champion_mb - candidate_mb})
    return Found(check, _compared("memory", "MiB", candidate_mb, champion_mb, limit_mb, champion))


def _compared(what: str, unit: str, candidate: float, champion: float, limit: float, version: int) -> str:
    over = f", above the limit of {limit:.3g} {unit}" if candidate > limit else ""
    return f"{what} is {candidate:.3g} {unit}, that of version {version} {champion:.3g} {unit}{over}"


def _check(name: str, metric: str, threshold: float, *, good: bool, value: float | None = None) -> Check:
    outcome = CheckOutcome.PASS if good else CheckOutcome.FAIL
    return Check(name=name, metric=metric, value=value, threshold=threshold, outcome=outcome)
