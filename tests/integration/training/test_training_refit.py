"""A refit beside its twin: within the limits it may serve in its twin's name, beyond one of them it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf
from tiny_run import Run, in_fork

from ct.contracts import RefitAgreement
from ct.gate_config import GateConfig
from ct.training.refit import NOT_FINITE, Compared, compare, disagreement
from ct.training.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GATE = GateConfig(threshold=0.6)
AGREEMENT = RefitAgreement(
    rows=300,
    band=0.02,
    level_band=0.05,
    difference_band=0.2,
    auc=0.8,
    twin_auc=0.81,
    level_error=0.03,
    twin_level_error=0.02,
    mean_difference=0.1,
)
LABELS = np.array([1, 1, 0, 0, 0], np.float32)


@pytest.mark.parametrize(
    "better",
    [
        {"level_error": 0.069},
        {"auc": 0.99, "level_error": 0.0},
        {"auc": None, "twin_auc": None},
        {"difference_band": None, "mean_difference": 1},
    ],
    ids=["a little worse", "better", "rows of one class", "from before differences were limited"],
)
def test_a_refit_may_be_better_than_its_twin_and_a_little_worse(better: dict[str, float | None]) -> None:
    """It has seen the rows; the band is for chance. Where the rows have one class, ranking does not count."""
    assert disagreement(AGREEMENT.model_copy(update=better)) is None


@pytest.mark.parametrize(
    ("worse", "message"),
    [
        ({"auc": 0.78}, "the refit's AUC is 0.7800, its twin's 0.8100, and gate.refit_band allows 0.02 less"),
        (
            {"level_error": 0.08},
            "the refit's mean prediction is 0.0800 from the share of positive labels, its twin's 0.0200, and gate.refit_level",
        ),
        (
            {"mean_difference": 0.21, "auc": 0.99},
            "their predictions differ by 0.2100 on average, and gate.refit_difference allows 0.2",
        ),
    ],
    ids=["ranking", "level", "predictions"],
)
def test_a_refit_that_is_worse_than_its_twin_or_another_model_does_not_agree(
    worse: dict[str, float], message: str
) -> None:
    """In any one part, which the words name with its numbers and its limit."""
    told = disagreement(AGREEMENT.model_copy(update=worse))
    assert told is not None
    assert told.startswith(f"its refit does not agree with it on 300 rows that the refit has learnt from: {message}")
    assert told.count(" allows ") == 1


def test_a_model_agrees_with_itself(first_run: Run) -> None:
    """Exactly; a real model of the pipeline, by its signature for raw features."""
    saved_model = first_run.output("Trainer", "model") / "Format-Serving"
    compared: Compared = in_fork(_with_itself, saved_model)
    assert compared.apart is None
    assert compared.agreement is not None
    assert compared.agreement.auc == compared.agreement.twin_auc
    assert compared.agreement.level_error == compared.agreement.twin_level_error
    assert (compared.agreement.rows, compared.agreement.mean_difference) == (4, 0.0)
    assert (compared.agreement.band, compared.agreement.difference_band) == (0.02, 0.2)


def _with_itself(saved_model: Path) -> Compared:
    features = {"kind": np.array([b"a", b"b", b"c", b"a"], object), "size": np.array([2, -2, 0, 1], np.float32)}
    return compare(saved_model, saved_model, Rows(features, np.array([1, 0, 0, 1], np.float32)), GATE)


def test_two_models_that_rank_alike_and_differ_in_most_rows_do_not_agree(tmp_path: Path) -> None:
    """Both have AUC 1 and the right level; what one calls near, the other calls far."""
    twin = [0.56, 0.54, 0.3, 0.3, 0.3]
    refit = [1.0, 1.0, 0.0, 0.0, 0.0]
    compared: Compared = in_fork(_compared, tmp_path, twin, refit)
    assert compared.agreement is not None
    assert compared.agreement.auc == compared.agreement.twin_auc == 1.0
    assert compared.agreement.level_error == pytest.approx(0, abs=1e-6)
    assert compared.agreement.mean_difference == pytest.approx(0.36)
    assert compared.apart is not None
    assert compared.apart.endswith(
        "their predictions differ by 0.3600 on average, and gate.refit_difference allows 0.2"
    )


def test_a_refit_that_predicts_no_numbers_does_not_agree(tmp_path: Path) -> None:
    """There is nothing to measure then, and no number on record."""
    refit = [0.5, float("nan"), 0.1, 0.1, 0.1]
    assert in_fork(_compared, tmp_path, [0.5, 0.5, 0.1, 0.1, 0.1], refit) == Compared(None, NOT_FINITE)


def _compared(folder: Path, twin: list[float], refit: list[float]) -> Compared:
    """Two models that say of row 0, 1, ... what the lists say."""
    for name, answers in (("twin", twin), ("refit", refit)):
        served = tf.Module()
        signatures: dict[str, Callable[..., Any]] = {"serving_default": _saying(answers)}
        tf.saved_model.save(served, str(folder / name), signatures=signatures)
    rows = Rows({"row": np.arange(len(LABELS))}, LABELS)
    return compare(folder / "twin", folder / "refit", rows, GATE)


def _saying(answers: list[float]) -> Any:
    @tf.function(input_signature=[{"row": tf.TensorSpec([None], tf.int64, name="row")}])
    def serving_default(given: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"probability": tf.gather(tf.constant(answers, tf.float32), given["row"])}

    return serving_default
