"""Airflow's settings for tests that import it: a home of their own, no server, no database."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="ct-test-airflow-"))
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

from task_run import node, run

__all__ = ["node", "run"]
