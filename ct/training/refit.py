"""Whether a refit agrees with its twin, the candidate that was judged.

A refit carries its twin's verdict, so it must not be another model: not a worse one by more than `gate.refit_band` and
`gate.refit_level`, and none
whose predictions are further than `gate.refit_difference` from its twin's, on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import roc_auc_score

from ct.contracts import RefitAgreement
from ct.training.rows import predict

if TYPE_CHECKING:
    from pathlib import Path

    from ct.gate_config import GateConfig
    from ct.training.rows import Rows

NOT_FINITE = "its refit predicts values that are not finite"


@dataclass(frozen=True)
class Compared:
    """A refit beside its twin."""

    agreement: RefitAgreement | None
    """The numbers; None where the refit predicts values that are not finite."""
    apart: str | None
    """Why the two do not agree, as words behind the twin's name; None where they do."""


def compare(twin: Path, refit: Path, rows: Rows, gate: GateConfig) -> Compared:
    """How a refit does beside its twin, on rows that the twin was judged on and the refit has learnt from.

    Args:
        twin: SavedModel of the candidate.
        refit: SavedModel of the refit.
        rows: raw rows with labels, at least one.
        gate: has the limits.
    """
    scores, judged = predict(refit, rows.features), predict(twin, rows.features)
    if not np.isfinite(scores).all():
        return Compared(None, NOT_FINITE)
    has_both_classes = len(set(rows.labels)) > 1
    positive = float(rows.labels.mean())
    agreement = RefitAgreement(
        rows=len(rows),
        band=gate.refit_band,
        level_band=gate.refit_level,
        difference_band=gate.refit_difference,
        auc=float(roc_auc_score(rows.labels, scores)) if has_both_classes else None,
        twin_auc=float(roc_auc_score(rows.labels, judged)) if has_both_classes else None,
        level_error=abs(float(scores.mean()) - positive),
        twin_level_error=abs(float(judged.mean()) - positive),
        mean_difference=float(np.abs(scores - judged).mean()),
    )
    return Compared(agreement, disagreement(agreement))


def disagreement(agreement: RefitAgreement) -> str | None:
    """Why a refit does not agree with its twin; None where it does.

    It has seen the rows, so it may well be better on them. Its AUC must be no more than the band below its twin's, its mean
    prediction no more than its band further from the share of positive labels, and its predictions must not be others: of two
    models that rank equally well, one may be wrong about whom the other is right about.
    """
    apart = []
    if (
        agreement.auc is not None
        and agreement.twin_auc is not None
        and agreement.auc < agreement.twin_auc - agreement.band
    ):
        apart.append(
            f"the refit's AUC is {agreement.auc:.4f}, its twin's {agreement.twin_auc:.4f}, and "
            f"gate.refit_band allows {agreement.band:g} less"
        )
    if agreement.level_error > agreement.twin_level_error + agreement.level_band:
        apart.append(
            f"the refit's mean prediction is {agreement.level_error:.4f} from the share of positive labels, its twin's "
            f"{agreement.twin_level_error:.4f}, and gate.refit_level allows {agreement.level_band:g} more"
        )
    if agreement.difference_band is not None and agreement.mean_difference > agreement.difference_band:
        apart.append(
            f"their predictions differ by {agreement.mean_difference:.4f} on average, and gate.refit_difference allows "
            f"{agreement.difference_band:g}"
        )
    on = f"its refit does not agree with it on {agreement.rows:,} rows that the refit has learnt from"
    return f"{on}: {'; '.join(apart)}" if apart else None
