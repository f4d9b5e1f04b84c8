"""MLflow's client behind the few calls that ct makes. Every failure is a RegistryError that says what still works."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ct.errors import NotRegisteredError, RegistryError
from ct.planes import requirement_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlflow import MlflowClient

    from ct.contracts import DeployedSpec, RunRequest

CHAMPION_ALIAS = "champion"
RUN_TAG = "ct.run_id"
METRICS_A_BATCH = 1000
"""MLflow's own limit for one log_batch call."""
POST_TIMEOUT_S = 5.0
UNKNOWN = '"RESOURCE_DOES_NOT_EXIST"'
"""The error code of MLflow for a version that it does not have."""
TAG_CHARACTERS = 5000
"""The longest tag that every store of MLflow takes."""
REQUEST_LIMITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""MLflow's defaults keep a caller waiting for minutes when the server is down."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a model as the registry knows it."""

    name: str
    version: int
    mlflow_run_id: str
    aliases: tuple[str, ...]


class MlflowRegistry:
    """An MLflow tracking server and its model registry.

    Args:
        tracking_url: for example `http://127.0.0.1:5000`.
    """

    def __init__(self, tracking_url: str) -> None:
        self._url = tracking_url
        self._connected: MlflowClient | None = None

    def begin_run(self, request: RunRequest, spec: DeployedSpec) -> str:
        """Begin the MLflow run of a ct run, in the experiment named like the pipeline. Asking again returns the same.

        Returns:
            MLflow's run id.

        Raises:
            RegistryError: the server refused or did not answer.
        """
        with self._speaking("begin a run") as client:
            found = client.get_experiment_by_name(request.pipeline)
            experiment = found.experiment_id if found else client.create_experiment(request.pipeline)
            known = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{request.run_id}'", max_results=1)
            if known:
                return str(known[0].info.run_id)
            run = client.create_run(experiment, run_name=request.run_id, tags=_tags(request, spec))
            return str(run.info.run_id)

    def log(
        self, run_id: str, *, params: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> None:
        """Add parameters, metrics and tags to a run. Logging the same again changes nothing.

        Raises:
            RegistryError: the server refused or did not answer.
        """
        from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415  slow to import

        with self._speaking("log a run") as client:
            now_ms = client.get_run(run_id).info.start_time
            values = [Metric(name, value, now_ms, 0) for name, value in metrics.items()]
            client.log_batch(
                run_id,
                params=[Param(name, str(value)) for name, value in params.items()],
                tags=[RunTag(name, value[:TAG_CHARACTERS]) for name, value in tags.items()],
            )
            for begin in range(0, len(values), METRICS_A_BATCH):
                client.log_batch(run_id, metrics=values[begin : begin + METRICS_A_BATCH])

    def log_files(self, run_id: str, folder: Path, under: str | None = None) -> None:
        """Add a folder's files to a run as artifacts.

        Raises:
            RegistryError: the server refused or did not answer.
        """
        with self._speaking("log artifacts") as client:
            client.log_artifacts(run_id, str(folder), under)

    def finish_run(self, run_id: str) -> None:
        """End a run well.

        Raises:
            RegistryError: the server refused or did not answer.
        """
        with self._speaking("finish a run") as client:
            client.set_terminated(run_id, "FINISHED")

    def fail_run(self, run_id: str, reason: str, *, status: Literal["FAILED", "KILLED"] = "FAILED") -> None:
        """End a run as failed, or as ended early because there was nothing to train on, with the reason as a tag.

        Raises:
            RegistryError: the server refused or did not answer.
        """
        with self._speaking("mark a run as failed") as client:
            client.set_tag(run_id, "ct.failure", reason[:TAG_CHARACTERS])
            client.set_terminated(run_id, status)

    def register(self, name: str, mlflow_run_id: str, artifact_path: str, *, description: str) -> RegisteredVersion:
        """Register a run's model as the next version. A run has one version: asking again returns the same.

        Args:
            name: the model.
            mlflow_run_id: the run whose artifacts hold the model.
            artifact_path: the model's folder among them.
            description: shown beside the version.

        Raises:
            RegistryError: the server refused or did not answer.
        """
        with self._speaking("register a version") as client:
            known = [version for version in self._versions(client, name) if version.mlflow_run_id == mlflow_run_id]
            if known:
                return known[-1]
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name)
            source = f"{client.get_run(mlflow_run_id).info.artifact_uri}/{artifact_path}"
            made = client.create_model_version(name, source, run_id=mlflow_run_id, description=description)
            return RegisteredVersion(name, int(made.version), mlflow_run_id, ())

    def point_champion(self, name: str, version: int) -> None:
        """Make the alias `champion` name this version.

        Raises:
            NotRegisteredError: the server has no such version.
            RegistryError: the server refused or did not answer.
        """
        alias = {"name": name, "alias": CHAMPION_ALIAS, "version": str(version)}
        self._post("registered-models/alias", alias, f"point the alias {CHAMPION_ALIAS} of {name} at version {version}")

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Add tags to a version, or replace them.

        Raises:
            NotRegisteredError: the server has no such version.
            RegistryError: the server refused or did not answer.
        """
        for key, value in tags.items():
            tag = {"name": name, "version": str(version), "key": key, "value": value[:TAG_CHARACTERS]}
            self._post("model-versions/set-tag", tag, f"tag version {version} of {name} with {key}")

    def versions(self, name: str) -> tuple[RegisteredVersion, ...]:
        """All versions of a model, in numeric order; empty for a model that is not registered.

        Raises:
            RegistryError: the server refused or did not answer.
        """
        with self._speaking("list versions") as client:
            return self._versions(client, name)

    @staticmethod
    def _versions(client: MlflowClient, name: str) -> tuple[RegisteredVersion, ...]:
        models = client.search_registered_models(f"name = '{name}'")
        aliases: dict[str, list[str]] = {}
        for alias, version in (models[0].aliases if models else {}).items():
            aliases.setdefault(str(version), []).append(alias)
        found = [
            RegisteredVersion(name, int(v.version), v.run_id or "", tuple(sorted(aliases.get(str(v.version), ()))))
            for v in client.search_model_versions(f"name = '{name}'")
        ]
        return tuple(sorted(found, key=lambda version: version.version))

    def _post(self, what: str, body: Mapping[str, str], purpose: str) -> None:
        """A call of MLflow's REST API itself: importing its client takes seconds, and a rollback at night should not."""
        import requests  # noqa: PLC0415

        try:
            answer = requests.post(f"{self._url}/api/2.0/mlflow/{what}", json=body, timeout=POST_TIMEOUT_S)
            answer.raise_for_status()
        except requests.HTTPError as error:
            # A proxy says 404 too, of anything.
            is_unknown = error.response is not None and UNKNOWN in error.response.text
            raise self._error(purpose, error, NotRegisteredError if is_unknown else RegistryError) from error
        except requests.RequestException as error:
            raise self._error(purpose, error) from error

    @contextmanager
    def _speaking(self, purpose: str) -> Iterator[MlflowClient]:
        """The client, with MLflow's and the network's errors as ours."""
        for name, value in REQUEST_LIMITS.items():
            os.environ.setdefault(name, value)
        import requests  # noqa: PLC0415
        from mlflow import MlflowClient  # noqa: PLC0415  seconds to import
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            self._connected = self._connected or MlflowClient(tracking_uri=self._url, registry_uri=self._url)
            yield self._connected
        except (MlflowException, requests.RequestException, OSError) as error:
            raise self._error(purpose, error) from error

    def _error(self, purpose: str, error: Exception, kind: type[RegistryError] = RegistryError) -> RegistryError:
        return kind(
            f"MLflow at {self._url} could not {purpose}: {str(error).splitlines()[0]}. What serves is not affected. "
            "See `ct status`.",
            url=self._url,
            purpose=purpose,
        )


def _tags(request: RunRequest, spec: DeployedSpec) -> dict[str, str]:
    """What identifies a run: enough to find its data, its code and its environments again."""
    return {
        RUN_TAG: request.run_id,
        "ct.trigger": request.trigger.value,
        "ct.spans": ",".join(span.name for span in request.spans),
        "ct.new_spans": ",".join(request.new_spans),
        "ct.data_sha256": ",".join(span.sha256 for span in request.spans),
        "ct.spec_hash": request.spec_hash,
        "ct.code_commit": spec.code_commit or "unknown",
        "ct.seed": str(request.seed),
        "ct.airflow_dag_run": f"{request.airflow_dag_id}/{request.airflow_run_id}",
        **{f"ct.requirements_sha256.{plane}": value for plane, value in requirement_hashes().items()},
    }
