"""The runtime parameters of the compiled IR: everything that a run or a machine decides. The IR itself names no path."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ct.training.run import Run

RUN_ID, PIPELINE_ROOT = "pipeline-run-id", "pipeline-root"
"""TFX's own."""

REQUEST_PATH, SCHEMA_FILE = "request-path", "schema-file"
"""Ours: the run's request.json, and the deployed schema.pbtxt."""


def bindings(run: Run, request_path: str) -> dict[str, str]:
    """Their values in one run."""
    return {
        RUN_ID: run.request.run_id,
        PIPELINE_ROOT: str(run.home.artifacts(run.request.pipeline)),
        REQUEST_PATH: request_path,
        SCHEMA_FILE: str(run.pipeline_folder / "schema.pbtxt"),
    }
