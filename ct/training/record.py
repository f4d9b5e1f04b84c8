"""The record of a run, as MLflow gets it: parameters, metrics a slice, tags, and files a person can open."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct.gate import OVERALL
from ct.training import plots
from ct.training.evaluation import read_metrics
from ct.training.tfma_metrics import CANDIDATE, CHAMPION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct.contracts import Feature, MadeWith, Verdict
    from ct.training.run import Run

EXAMPLE_ROWS = 5
"""Rows of the input example that MLflow shows."""
PARAMETER_CHARACTERS = 500
"""MLflow's older stores cut longer values off with an error."""


def values(run: Run, verdict: Verdict, evaluation_uri: str, *, refit: bool) -> dict[str, Any]:
    """Keyword arguments of MlflowRegistry.log: params, metrics and tags."""
    tags = {
        "ct.verdict": verdict.outcome.value,
        "ct.verdict_reason": verdict.reason,
        "ct.judged_on": verdict.span,
        "ct.champion_version": str(verdict.champion_version or ""),
        "ct.refit": str(refit).lower(),
        **_made_with_tags(run.made_with(refit=refit)),
    }
    return {"params": _parameters(run), "metrics": _metrics(verdict, evaluation_uri), "tags": tags}


@dataclass(frozen=True)
class Sources:
    """The artifact folders that the record copies from."""

    statistics: str
    anomalies: str
    schema: str
    evaluation: str


def write_files(run: Run, verdict: Verdict, sources: Sources, folder: Path) -> None:
    """Write what MLflow shows under a run's artifacts.

    ::

    verdict.json, request.json
    schema/           schema.pbtxt
    evaluation/       TFMA's result
    statistics/       TFDV's statistics, a folder a split
    anomalies/        TFDV's anomalies, likewise
    plots/            metrics.png, features.png
    pipeline/         the pipeline's files as they were deployed
    """
    (folder / "verdict.json").write_text(verdict.model_dump_json(indent=2), encoding="utf-8")
    (folder / "request.json").write_text(run.request.model_dump_json(indent=2), encoding="utf-8")
    for name, uri in asdict(sources).items():
        shutil.copytree(uri, folder / name)
    shutil.copytree(run.pipeline_folder, folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "plots").mkdir()
    plots.plot_verdict(verdict, folder / "plots" / "metrics.png")
    features = folder / "plots" / "features.png"
    plots.plot_features(Path(sources.statistics), features, leave_out=(run.config.window.time_column,))


def write_mlflow_model(
    folder: Path, saved_model: Path, features: Sequence[Feature], proof: Mapping[str, Any], mlflow_run_id: str
) -> None:
    """Write an MLflow model around the very SavedModel that will serve.

    ::

        MLmodel                flavors tensorflow and python_function, signature, input example
        saved_model/
        input_example.json

    The flavor is MLflow's for a SavedModel with a named signature (it calls it `tf1-estimator`), because its other ones
    would export the model again.
    """
    import pandas as pd  # noqa: PLC0415
    from mlflow import pyfunc, tensorflow  # noqa: PLC0415
    from mlflow.models import Model  # noqa: PLC0415

    inputs = pd.DataFrame(proof["instances"])
    model = Model(artifact_path="model", run_id=mlflow_run_id, signature=_signature(features))
    model.add_flavor(
        tensorflow.FLAVOR_NAME,
        saved_model_dir="saved_model",
        model_type="tf1-estimator",
        meta_graph_tags=["serve"],
        signature_def_key="serving_default",
    )
    pyfunc.add_to_model(model, loader_module="mlflow.tensorflow")
    example = inputs.head(EXAMPLE_ROWS).to_dict(orient="split", index=False)
    (folder / "input_example.json").write_text(json.dumps(example), encoding="utf-8")
    model.saved_input_example_info = {
        "artifact_path": "input_example.json",
        "type": "dataframe",
        "pandas_orient": "split",
    }
    shutil.copytree(saved_model, folder / "saved_model")
    model.save(str(folder / "MLmodel"))


def _signature(features: Sequence[Feature]) -> Any:
    """The SavedModel's signature as tensors: from columns MLflow would make every number a double."""
    import numpy as np  # noqa: PLC0415
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import Schema, TensorSpec  # noqa: PLC0415

    kinds = {"string": np.dtype(str), "float32": np.dtype(np.float32), "int64": np.dtype(np.int64)}
    inputs: list[Any] = [TensorSpec(kinds[feature.dtype], (-1,), feature.name) for feature in features]
    return ModelSignature(Schema(inputs), Schema([TensorSpec(kinds["float32"], (-1,), "probability")]))


def _parameters(run: Run) -> dict[str, str]:
    config = run.spec.config
    flat = {
        "seed": run.request.seed,
        "spans": len(run.request.spans),
        "newest_span": run.request.spans[-1].name,
        "judged_on": "+".join(span.name for span in run.request.judged),
        **{f"train.{key}": value for key, value in config["train"].items() if key != "hyperparameters"},
        **{f"train.{key}": value for key, value in config["train"]["hyperparameters"].items()},
        **{f"gate.{key}": value for key, value in config["gate"].items()},
        **{f"window.{key}": value for key, value in config["window"].items()},
    }
    return {key: str(value)[:PARAMETER_CHARACTERS] for key, value in flat.items()}


def _metrics(verdict: Verdict, evaluation_uri: str) -> dict[str, float]:
    """Of both models, `<metric>` and `champion.<metric>`; of a slice, `<metric>/<feature>=<value>`.

    Of each overall comparison of the gate by how much the candidate is better: `difference.<metric>`, `.low` and `.high`.
    """
    measured = {
        "": read_metrics(evaluation_uri, CANDIDATE),
        "champion.": read_metrics(evaluation_uri, CHAMPION),
    }
    logged = {
        prefix + metric + ("" if name == OVERALL else f"/{_allowed(name)}"): value
        for prefix, slices in measured.items()
        for name, metrics in slices.items()
        for metric, value in metrics.items()
    }
    for check in verdict.checks:
        if check.slice == OVERALL and check.difference is not None:
            name = f"difference.{_allowed(check.metric)}"
            numbers = {name: check.difference, f"{name}.low": check.low, f"{name}.high": check.high}
            logged |= {key: number for key, number in numbers.items() if number is not None}
    return {key: value for key, value in logged.items() if math.isfinite(value)}


def _made_with_tags(made_with: Sequence[MadeWith]) -> dict[str, str]:
    """Of the node that trained. The pins take the place of those that were there when the MLflow run began."""
    if not made_with:
        return {}
    made = made_with[-1]
    return {
        "ct.own_version": made.version,
        "ct.own_commit": made.commit or "unknown",
        "ct.own_code_sha256": made.code_sha256,
        **{f"ct.requirements_sha256.{plane}": sha256 for plane, sha256 in made.requirement_hashes.items()},
    }


def _allowed(slice_name: str) -> str:
    """A slice's name in the characters that MLflow allows in a metric's."""
    return re.sub(r"[^\w\-. :/]", "_", slice_name)
