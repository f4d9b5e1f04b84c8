"""The peer MLflow: a pyfunc model from code around the SavedModel.

As a program, `mlflow_model.py <folder>`, it saves that model; MLflow's scoring server loads this file from there. The signature
is of tensors: with one of data frame columns the same server answers a third as many requests.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel
from mlflow.types import Schema, TensorSpec
from saved_model import FOLDER_VARIABLE, SavedModel

if TYPE_CHECKING:
    from mlflow.pyfunc import PythonModelContext


class Flights(PythonModel):
    """Answers tensors: an array a feature, shape (rows,)."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the SavedModel."""
        self._model = SavedModel(context.artifacts["saved_model"])

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002  MLflow's signature
        model_input: dict[str, np.ndarray[Any, Any]],
    ) -> np.ndarray[Any, Any]:
        """Probabilities of rows."""
        return self._model.predict_columns(model_input)


def save(folder: str) -> None:
    """Write the MLflow model; the folder must not exist."""
    source = os.environ[FOLDER_VARIABLE]
    kinds = {name: np.dtype(dtype.name if dtype.name != "string" else "str") for name, dtype in _dtypes(source).items()}
    mlflow.pyfunc.save_model(
        folder,
        python_model=__file__,
        artifacts={"saved_model": source},
        signature=ModelSignature(Schema([TensorSpec(kind, (-1,), name) for name, kind in kinds.items()])),
        pip_requirements=["tensorflow-cpu"],
    )


def _dtypes(source: str) -> dict[str, Any]:
    return SavedModel(source).dtypes


if __name__ == "__main__":
    save(sys.argv[1])
else:
    set_model(Flights())
