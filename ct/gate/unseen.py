"""Whether the champion can be judged on the gate's spans: a model is flattered by rows that it has learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ct.contracts import RunRequest, Span, VersionManifest


def learnt_from(manifest: VersionManifest, request: RunRequest, holdout_days: int) -> tuple[str, ...]:
    """Names of the spans to judge on that a version has learnt from, in these bytes or in an earlier revision of them.

    Args:
        manifest: the version's.
        request: the run that would judge on `request.judged`.
        holdout_days: how many last days it would judge on, if that is an only span.
    """
    held_out = manifest.verdict.holdout_days or holdout_days
    both_hold_out = manifest.verdict.holdout and not manifest.refit and request.holdout
    same_bytes = [span.sha256 for span in manifest.spans] == [span.sha256 for span in request.spans]
    if both_hold_out and same_bytes and held_out >= holdout_days:
        return ()  # the version has seen none of these last days; in another revision they may be others
    learnt = _learnt(manifest)
    hashes, names = {span.sha256 for span in learnt}, {span.name for span in learnt}
    return tuple(span.name for span in request.judged if span.sha256 in hashes or span.name in names)


def _learnt(manifest: VersionManifest) -> tuple[Span, ...]:
    if manifest.refit or len(manifest.spans) == 1:
        return manifest.spans
    trained = manifest.verdict.trained_sha256
    if not trained:  # of a version from before this was on record: it was judged on its newest span
        return manifest.spans[:-1]
    return tuple(span for span in manifest.spans if span.sha256 in trained)
