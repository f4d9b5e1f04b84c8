"""Airflow's LocalExecutor, in a process that has imported what the DAG file imports.

Its workers fork from the scheduler and their tasks fork from them, so each task finds the imports done: 0.2 s less a task.
"""

from __future__ import annotations

from airflow.executors import local_executor

import ct.airflow.dag_factory  # noqa: F401  for its imports, before the workers fork


class LocalExecutor(local_executor.LocalExecutor):
    """See the module. The name is Airflow's: its auth manager warns of production use under any other."""
