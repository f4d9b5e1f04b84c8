"""What ct adds to Airflow's UI: a tab `Verdict` on each run of a DAG."""  # noqa: INP001  Airflow reads it by path

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


class VerdictPlugin(AirflowPlugin):
    """The page of a run's verdict, and the tab that shows it."""

    name = "ct"
    external_views = [  # noqa: RUF012  as the base class declares it
        {
            "name": "Verdict",
            "href": "/ct/verdicts/{DAG_ID}/{RUN_ID}",
            "destination": "dag_run",
            "url_route": "ct-verdict",
        }
    ]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Made when asked for: every process of Airflow loads plugins, and only the API server serves pages."""
        from ct.airflow.verdict_link import PREFIX  # noqa: PLC0415
        from ct.airflow.verdict_view import make_app  # noqa: PLC0415
        from ct.home import Home  # noqa: PLC0415

        return [{"app": make_app(Home.from_environment()), "url_prefix": PREFIX, "name": "ct"}]
