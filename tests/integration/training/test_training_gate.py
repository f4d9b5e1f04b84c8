"""The gate on real models: the baseline is what serves, both score the same rows, and the record repeats itself.

The champions are small SavedModels made here, better and worse than the candidate by design; the candidate is trained by the
pipeline's own nodes on a span whose label follows from `kind` alone, so that it is mediocre on the span it is judged on.
"""

from __future__ import annotations

import csv
import random
import shutil
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny_run import NOW, TINY, UP_TO_GATE, Run, in_fork, make_run

from ct.contracts import DesiredState, Outcome, Span, Verdict, VersionManifest
from ct.deploy import deploy
from ct.gate import judge
from ct.gate.delong import delong
from ct.home import Home
from ct.rollout import ModelStore, tree_sha256
from ct.training.binary_metrics import BUCKETS
from ct.training.preload import tf
from ct.training.run import load_run
from ct.training.scores import read_scores
from ct.training.tfma_metrics import CANDIDATE, CHAMPION, metrics_of

if TYPE_CHECKING:
    from pathlib import Path

GATE = """
evaluate:
  slices: [kind]
  metrics:
    - {name: recall_at_half, class_name: Recall, config: {thresholds: 0.5}, better: higher}
    - {name: mse, class_name: MeanSquaredError, better: lower}
gate:
  metric: auc
  threshold: 0.55
  checks:
    - {metric: recall_at_half, min_improvement: -0.95}
    - {metric: mse, min_improvement: -0.95}
"""
OF_TFMA = {"recall_at_half": 1, "mse": -1}
"""Metric -> the sign that makes a difference positive where the candidate is better."""
GOOD, BAD = (2.0, 2.0), (-2.0, 0.0)
"""Weights of `size` and of kind `a`; the label of the gate's span follows from both."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A mediocre candidate, ready to be judged on 2013-04. Versions 6 (good), 7 (bad) and 5 (needs `gone`) are in the store."""
    folder = tmp_path_factory.mktemp("gate")
    home = Home(folder / "home").create()
    pipeline = shutil.copytree(TINY, folder / "tiny")
    text = (pipeline / "pipeline.yaml").read_text(encoding="utf-8")
    (pipeline / "pipeline.yaml").write_text(text[: text.index("evaluate:")] + GATE, encoding="utf-8")
    taught, judged = write_labelled(folder / "2013-01.csv", by_size=False), write_labelled(folder / "2013-04.csv")
    made = make_run(home, deploy(pipeline, home, on_line=print).spec, "gate", taught, judged)
    for version, weights, needs in ((5, GOOD, "gone"), (6, GOOD, "size"), (7, BAD, "size")):
        saved_model = folder / str(version)
        in_fork(save_model, saved_model, weights, needs)
        stage(made, version, saved_model)
    return made.through(UP_TO_GATE[: UP_TO_GATE.index("Champion")])


def test_after_a_rollback_a_candidate_that_beats_what_was_rolled_back_and_loses_to_what_serves_is_refused(
    run: Run,
) -> None:
    """Version 8 beats 7; after the rollback 7 -> 6 it is compared with 6, loses and is refused: the baseline is what serves."""
    rolled_back = verdict_against(run, 7, generation=1)
    assert rolled_back.outcome is Outcome.APPROVED, rolled_back.reason
    serving = verdict_against(run, 6, previous=7, generation=2)
    assert serving.outcome is Outcome.REFUSED
    assert serving.champion_version == 6
    assert "of version 6: worse by" in serving.reason


def test_the_gate_and_tfma_agree(run: Run) -> None:
    """On every metric of the gate's own, of both models; on AUC to the last digit, once scores are put into TFMA's buckets."""
    decision = verdict_against(run, 6)
    measured = {
        (entry.model_name, entry.metric): entry.value
        for entry in metrics_of(str(run.output("Evaluator", "evaluation")))
        if entry.slice_name == "overall" and not entry.is_difference
    }
    scores = read_scores(run.output("Gate", "verdict") / "scores.parquet")
    assert scores.rows == decision.rows == measured[CANDIDATE, "example_count"]
    check = next(check for check in decision.checks if check.difference is not None)
    for model, found, probabilities in (
        (CANDIDATE, check.value, scores.candidate),
        (CHAMPION, check.baseline, scores.champion),
    ):
        assert found == delong(scores.labels, probabilities[np.newaxis]).values[0]
        buckets = np.minimum((probabilities * BUCKETS).astype(int), BUCKETS - 1).astype(np.float64)
        assert measured[model, "auc"] == pytest.approx(delong(scores.labels, buckets[np.newaxis]).values[0], abs=1e-12)
    for metric, loss in (("brier", scores.candidate - scores.labels), ("binary_accuracy", None)):
        ours = (loss**2).mean() if loss is not None else ((scores.candidate >= 0.5) == scores.labels).mean()
        assert ours == pytest.approx(measured[CANDIDATE, metric], abs=1e-6)


def test_a_metric_of_tfma_has_its_interval(run: Run) -> None:
    """Of the paired difference, TFMA's, which is positive where the candidate is better: a higher recall, a lower error."""
    checks = {check.metric: check for check in verdict_against(run, 6).checks if check.metric in OF_TFMA}
    for metric, sign in OF_TFMA.items():
        check = checks[metric]
        assert check.low < check.difference < check.high
        assert check.difference == pytest.approx(sign * (check.value - check.baseline))
        assert check.method == "TFMA's jackknife, 20 parts"
    assert checks["mse"].difference < 0 < checks["mse"].value, "version 6 has the lower error"


def test_the_same_inputs_give_the_same_verdict(run: Run) -> None:
    """The nodes once more, to the last digit but for what TFMA makes in Beam's order; and so do the kept scores alone."""
    first, again = verdict_against(run, 6), verdict_against(run, 6)
    assert without_beams_order(first) == without_beams_order(again)
    kept = read_scores(run.output("Gate", "verdict") / "scores.parquet")
    gate = load_run(str(run.folder / "request.json")).config.gate.model_copy(update={"checks": ()})
    repeated = judge(
        config=gate, scores=kept, champion_version=6, span=first.span, holdout_days=None, seed=run.request.seed
    )
    assert repeated.checks == tuple(check for check in first.checks if check.metric not in OF_TFMA)


def without_beams_order(verdict: Verdict) -> Verdict:
    """All of it but for what follows Beam's order: the ends of TFMA's intervals, and sums of 32-bit squares."""
    ends = ("low", "high")
    left_out = {"recall_at_half": ends, "mse": (*ends, "value", "baseline", "difference")}
    checks = [check.model_copy(update=dict.fromkeys(left_out.get(check.metric, ()))) for check in verdict.checks]
    return verdict.model_copy(update={"checks": tuple(checks)})


def test_every_slice_is_scored_on_its_own_rows(run: Run) -> None:
    """One check a kind, whose rows add up to all."""
    slices = {check.slice: check.rows for check in verdict_against(run, 6).checks if check.slice != "overall"}
    assert sorted(slices) == ["kind=a", "kind=b", "kind=c"]
    assert sum(rows or 0 for rows in slices.values()) == run.verdict().rows


def test_a_champion_that_cannot_score_the_rows_stops_nobody(run: Run) -> None:
    """It needs a feature that is gone: the candidate is measured alone, and the verdict says why it cannot be compared."""
    verdict = verdict_against(run, 5)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "version 5 cannot be compared with" in verdict.reason
    assert "gone" in verdict.reason
    assert verdict.checks[0].value is not None
    assert not run.result("Gate").facts["comparable"]


def test_a_champion_that_has_learnt_from_the_rows_is_no_baseline(run: Run) -> None:
    """Good as it is, it was trained on 2013-04: nothing can be said, in either direction."""
    stage(run, 9, run.home.models / "tiny" / "versions" / "6" / "saved_model", spans=run.request.spans)
    verdict = verdict_against(run, 9)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "version 9 has learnt from 2013-04" in verdict.reason


def test_the_verdict_says_what_was_judged_on_and_what_was_learnt_from(run: Run) -> None:
    """By the hashes of the bytes."""
    verdict = verdict_against(run, 6)
    taught, judged = (span.sha256 for span in run.request.spans)
    assert (verdict.trained_sha256, verdict.judged_sha256) == ((taught,), (judged,))
    assert (verdict.seed, verdict.alpha) == (run.request.seed, 0.05)


def verdict_against(run: Run, version: int, previous: int | None = None, generation: int = 1) -> Verdict:
    """Let a version serve and judge the candidate: the nodes Champion, Evaluator and Gate, as a cleared task runs them."""
    ModelStore(run.home, "tiny").desire(
        DesiredState(name="tiny", generation=generation, version=version, previous=previous, warm=(version,))
    )
    for node_id in ("Champion", "Evaluator", "Gate"):
        result = run.node(node_id, attempt=2)
        assert result.ok, f"{node_id}: {result.message}\n{(run.folder / f'{node_id}.log').read_text()[-3000:]}"
    return run.verdict()


def stage(run: Run, version: int, saved_model: Path, spans: tuple[Span, ...] | None = None) -> None:
    """Put a model into the store, made of the spans given; by default of one that no run here has."""
    other = run.request.spans[0].model_copy(update={"name": "2012-12", "sha256": "0"})
    manifest = VersionManifest(
        name="tiny",
        version=version,
        created_at=NOW,
        run_id=f"run-{version}",
        mlflow_run_id=None,
        features=(),
        label="late",
        spans=spans or (other,),
        refit=True,
        verdict=_any_verdict(),
        saved_model_sha256=tree_sha256(saved_model),
        prediction_tolerance=1e-5,
    )
    ModelStore(run.home, "tiny").stage(saved_model, manifest, {"instances": [], "predictions": []})


def _any_verdict() -> Verdict:
    return Verdict(
        outcome=Outcome.APPROVED, reason="", checks=(), champion_version=None, span="x", rows=0, holdout=False
    )


def save_model(folder: Path, weights: tuple[float, float], needs: str) -> None:
    """A SavedModel with the signature that the gate scores with: logistic in `size` and kind `a`."""
    spec = {
        "kind": tf.io.FixedLenFeature([], tf.string),
        needs: tf.io.FixedLenFeature([], tf.float32),
    }
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serving_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        row = tf.io.parse_example(examples, spec)
        is_a = tf.cast(row["kind"] == "a", tf.float32)
        return {"probability": tf.sigmoid(weights[0] * row[needs] + weights[1] * is_a - 1.0)}

    tf.saved_model.save(module, str(folder), signatures={"serving_examples": serving_examples})


def write_labelled(path: Path, *, by_size: bool = True, rows: int = 900) -> Path:
    """A CSV span of ten days; the label follows from `kind`, and from `size` where asked, with noise."""
    numbers = random.Random(path.stem)  # noqa: S311  synthetic data
    begin = datetime(2013, 1, 1, tzinfo=timezone.utc)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "kind", "size", "late"])
        for row in range(rows):
            size, kind = numbers.gauss(0, 1), numbers.choice("abc")
            late = int(by_size * size + (kind == "a") + numbers.gauss(0, 0.5) > 0.5)
            writer.writerow([(begin + timedelta(days=10 * row / rows)).isoformat(), kind, f"{size:.4f}", late])
    return path
