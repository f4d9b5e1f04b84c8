"""How a spec that gives no DAG is shown: as an import error that names its pipeline, with the other DAGs untouched.

Airflow keeps import errors by file, and an error of the one DAG file would make every pipeline's DAG stale. An error while
a DAG is serialized is kept under the DAG's own relative path, so a DAG that claims the spec's path and cannot be
serialized is an import error of the spec.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG

from ct.errors import ConfigError


class BrokenSpec(DAG):
    """A DAG that stands for a pipeline whose spec cannot be used; Airflow shows `reason` as an import error."""

    def __init__(self, pipeline: str, reason: str) -> None:
        self._spec_path = f"deployed/{pipeline}"
        super().__init__(dag_id=f"{pipeline}__broken", schedule=None)
        self._reason = reason

    @property
    def relative_fileloc(self) -> str:
        return self._spec_path

    @relative_fileloc.setter
    def relative_fileloc(self, _: Any) -> None:
        """Airflow sets the DAG file's path here."""

    def get_serialized_fields(self) -> Any:  # type: ignore[override]
        """Raises ConfigError: Airflow asks for this first when it serializes a DAG."""
        raise ConfigError(self._reason)
