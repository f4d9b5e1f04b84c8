"""Parameters, metrics and tags of one MLflow run, over its REST API: importing MLflow's client takes seconds."""

from __future__ import annotations

from typing import Any

from ct.errors import RegistryError

TIMEOUT_S = 20.0


def run_facts(url: str, mlflow_run_id: str) -> dict[str, Any]:
    """What MLflow has on record of a run: `{"params": {...}, "metrics": {...}, "tags": {...}}`, each sorted by name.

    Args:
        url: the tracking server, for example `http://127.0.0.1:5000`.
        mlflow_run_id: MLflow's id of the run.

    Raises:
        RegistryError: the server refused or did not answer.
    """
    import requests  # noqa: PLC0415  the CLI's --help must not wait for it

    try:
        answer = requests.get(f"{url}/api/2.0/mlflow/runs/get", params={"run_id": mlflow_run_id}, timeout=TIMEOUT_S)
        answer.raise_for_status()
        data = answer.json()["run"]["data"]
    except (requests.RequestException, KeyError, ValueError) as error:
        raise RegistryError(
            f"MLflow at {url} could not say what it has of run {mlflow_run_id}: {str(error).splitlines()[0]}. "
            "What serves is not affected. See `ct status`.",
            url=url,
            mlflow_run_id=mlflow_run_id,
        ) from error
    found = {
        kind: {entry["key"]: entry["value"] for entry in data.get(kind, ())} for kind in ("params", "metrics", "tags")
    }
    return {kind: dict(sorted(values.items())) for kind, values in found.items()}
