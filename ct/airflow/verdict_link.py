"""Where a run's verdict is in Airflow's UI, and the button on the task that leads there."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

PREFIX = "/ct"
"""Under which the plugin's pages are mounted in Airflow's API server."""


class VerdictLink(BaseOperatorLink):
    """Leads from a task to the page of its run's verdict."""

    name = "Verdict"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002  Airflow's signature
        """The page's path, which the browser completes."""
        return verdict_path(ti_key.dag_id, ti_key.run_id)


def verdict_path(dag_id: str, airflow_run_id: str) -> str:
    """The path of a run's verdict in Airflow's UI."""
    return f"{PREFIX}/verdicts/{quote(dag_id, safe='')}/{quote(airflow_run_id, safe='')}"
