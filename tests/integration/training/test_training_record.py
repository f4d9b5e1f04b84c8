"""The record that MLflow gets: metrics a slice, files a person opens, and a model that loads anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from tiny_run import Run, in_fork

from ct.training import record
from ct.training.rows import Rows, predict_examples, signature_features
from ct.training.run import load_run

if TYPE_CHECKING:
    from pathlib import Path

    from ct.contracts import Verdict
    from ct.training.run import Run as RunOf


def test_metrics_of_both_models_are_logged_overall_and_a_slice(second_run: Run) -> None:
    """`auc` is the candidate's, `champion.auc` the champion's, and a slice's name stands after the metric's."""
    run = load_run(str(second_run.folder / "request.json"))
    evaluation = str(second_run.output("Evaluator", "evaluation"))
    logged = in_fork(_values, run, second_run.verdict(), evaluation)
    verdict = second_run.verdict()
    check = next(check for check in verdict.checks if check.baseline is not None and check.slice == "overall")
    assert logged["metrics"]["auc"] == pytest.approx(check.value)
    assert logged["metrics"]["champion.auc"] == pytest.approx(check.baseline)
    assert "auc/kind_a" in logged["metrics"]
    assert logged["tags"]["ct.verdict"] == verdict.outcome.value
    assert logged["params"]["newest_span"] == "2013-02"


def test_the_files_of_a_run_are_there_to_open(second_run: Run, tmp_path: Path) -> None:
    """Verdict, request, schema, TFDV's and TFMA's results, the pipeline's code, and plots that are not empty."""
    run = load_run(str(second_run.folder / "request.json"))
    sources = record.Sources(
        statistics=str(second_run.output("StatisticsGen", "statistics")),
        anomalies=str(second_run.output("ExampleValidator", "anomalies")),
        schema=str(second_run.output("Schema", "schema")),
        evaluation=str(second_run.output("Evaluator", "evaluation")),
    )
    record.write_files(run, second_run.verdict(), sources, tmp_path)
    for name in ("verdict.json", "request.json", "schema/schema.pbtxt", "pipeline/model.py", "evaluation", "anomalies"):
        assert (tmp_path / name).exists(), name
    for name in ("plots/metrics.png", "plots/features.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / name).stat().st_size > 5000


def test_the_mlflow_model_predicts_what_the_saved_model_does(second_run: Run, tmp_path: Path) -> None:
    """MLflow loads the very SavedModel, and a data frame of doubles is taken for its 32-bit features."""
    saved_model = second_run.output("Trainer", "model") / "Format-Serving"
    predicted, expected = in_fork(_through_mlflow, saved_model, tmp_path)
    assert predicted == pytest.approx(expected, abs=1e-6)


def _values(run: RunOf, verdict: Verdict, evaluation: str) -> dict[str, Any]:
    return record.values(run, verdict, evaluation, refit=False)


def _through_mlflow(saved_model: Path, folder: Path) -> tuple[list[float], list[float]]:
    from mlflow import pyfunc  # noqa: PLC0415

    features = signature_features(saved_model)
    some: dict[str, Any] = {"string": b"a", "float32": np.float32(0.5), "int64": np.int64(2)}
    columns = {f.name: np.array([some[f.dtype]] * 3, dtype=object if f.dtype == "string" else None) for f in features}
    proof = predict_examples(saved_model, Rows(columns, np.zeros(3, np.float32)))
    record.write_mlflow_model(folder, saved_model, features, proof, "run")
    answer = pyfunc.load_model(str(folder)).predict(pd.DataFrame(proof["instances"]))
    return [float(value) for value in answer["probability"]], proof["predictions"]
