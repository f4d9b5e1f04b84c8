"""Airflow's LocalExecutor, in a process that has imported what a run's tasks import.

Its workers fork from the scheduler and their tasks fork from them, so each task finds the imports done: 0.2 s less a task,
and 1 to 2 s less where a task talks to MLflow.
"""

from __future__ import annotations

import mlflow  # noqa: F401  as below; it starts no thread, so forking after it is safe
from airflow.executors import local_executor

import ct.airflow.dag_factory  # noqa: F401  for its imports, before the workers fork


class LocalExecutor(local_executor.LocalExecutor):
    """See the module. The name is Airflow's: its auth manager warns of production use under any other."""
