"""The last task of a run: write down how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from ct.airflow.closing import close_run
from ct.errors import RegistryError
from ct.home import Home
from ct.settings import Settings
from ct.triggers.ledger import Ledger
from ct.triggers.records import BEFORE_CLAIM, RunStatus

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from ct.triggers.records import RunRecord

FINISH = "finish"


class FinishRun(BaseOperator):
    """Last task, whatever happened before: write down how the run ended, and settle its spans.

    It is a teardown, so it runs after failures too. Its own state is the run's: it fails, once all is written down, when the
    run failed, and does not when the gate refused, when it could not tell, or when the data stopped the run before training.
    """

    ui_color = "#e8f0fe"

    def __init__(self, *, pipeline: str, node_ids: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.node_ids = node_ids

    def execute(self, context: Context) -> dict[str, Any]:
        """Returns status, message and version, for XCom."""
        dag_run, ti = context["dag_run"], context["ti"]
        home = Home.from_environment()
        ledger = Ledger.open(home)
        run = ledger.run_of(self.pipeline, dag_run.run_id)
        if run is None or run.cause in BEFORE_CLAIM:
            raise AirflowSkipException("The run had claimed nothing.")
        states = ti.get_task_states(dag_id=dag_run.dag_id, run_ids=[dag_run.run_id])[dag_run.run_id]
        failed = [node_id for node_id in self.node_ids if states.get(node_id) == "failed"]
        failed += [node_id for node_id in self.node_ids if states.get(node_id) == "upstream_failed"]
        ending = close_run(home, ledger, run.run_id, failed_tasks=failed)
        for span, reason in ending.refused.items():
            self.log.error("Span %s is refused: %s", span, reason)
        if ending.status is RunStatus.FAILED:
            self._fail_mlflow_run(home, run, ending.message)
            raise AirflowFailException(f"Run {run.run_id} failed: {ending.message}")
        if ending.status is RunStatus.SKIPPED:
            self._fail_mlflow_run(home, run, f"ended before training: {ending.message}", status="KILLED")
        self.log.info("Run %s: %s. %s", run.run_id, ending.status.value, ending.message)
        return {"status": ending.status.value, "message": ending.message, "version": ending.version}

    def _fail_mlflow_run(
        self, home: Home, run: RunRecord, reason: str, *, status: Literal["FAILED", "KILLED"] = "FAILED"
    ) -> None:
        if run.mlflow_run_id is None:
            return
        from ct.registry import MlflowRegistry  # noqa: PLC0415

        try:
            MlflowRegistry(Settings.load(home).mlflow_base_url).fail_run(run.mlflow_run_id, reason, status=status)
        except RegistryError as error:
            self.log.warning("%s The MLflow run %s still shows as running.", error, run.mlflow_run_id)
