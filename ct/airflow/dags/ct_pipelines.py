"""The one DAG file: every deployed pipeline of CT_HOME is an Airflow DAG. `ct deploy` changes what it finds."""  # noqa: INP001  Airflow reads it by path

from __future__ import annotations

from airflow.sdk import get_parsing_context

from ct.airflow.broken import BrokenSpec
from ct.airflow.dag_factory import build_dags
from ct.home import Home

built = build_dags(Home.from_environment(), only=get_parsing_context().dag_id)
globals().update({f"dag_{dag.dag_id}": dag for dag in built.dags})
globals().update({f"broken_{name}": BrokenSpec(name, reason) for name, reason in built.broken.items()})
