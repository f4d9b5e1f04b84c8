"""A TFX node as an Airflow task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from ct.airflow.api import APPROVAL
from ct.airflow.claim import CLAIM
from ct.airflow.closing import TRAINER, is_stop, stopped_by_data
from ct.airflow.verdict_link import VerdictLink
from ct.contracts import NodeJob, Outcome, RunRequest
from ct.deploy import spec_dir_of
from ct.errors import CTError
from ct.home import Home
from ct.triggers.ledger import Ledger
from ct.verdict_page.record import GATE, REGISTER, approval_of
from ct.worker.client import NodeRun

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from ct.contracts import Approval


class NodeOperator(BaseOperator):
    """One TFX node of the run, in the training plane. Its task id is the node's id; its output is the task's log.

    Killing the task, or its timeout, ends the node. Whether a failure is tried again is the node's to say: bad data never
    is. With `after_approval` the task is skipped unless the candidate is approved: by the person whom the policy asks, else by
    the gate; and, behind Register, when its version is withheld.

    Args:
        pipeline: whose run it is.
        after_approval: whether it needs an approved candidate.
        asked: of a node behind the gate: outcomes that count only with a person's answer.
    """

    ui_color = "#e6f4ea"

    def __init__(
        self, *, pipeline: str, after_approval: bool = False, asked: tuple[Outcome, ...] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.after_approval = after_approval
        self.asked = asked
        if self.task_id == GATE:
            self.operator_extra_links = (VerdictLink(),)
        self._node_run: NodeRun | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Returns the node's facts, for XCom."""
        ti = context["ti"]
        home = Home.from_environment()
        claimed = ti.xcom_pull(task_ids=CLAIM)
        approval = approval_of(home, claimed["run_id"])
        if approval is None and self.asked:
            _refuse_without_answer(ti, claimed["run_id"], self.asked)
        if self.after_approval:
            _require_approval(ti, approval)
        request_path = home.request_path(claimed["run_id"])
        request = RunRequest.model_validate_json(request_path.read_text(encoding="utf-8"))
        upstream = self.get_flat_relative_ids(upstream=True)
        stopped = stopped_by_data(home, request.run_id, upstream)
        if self.after_approval and REGISTER in upstream:
            _refuse_withheld(ti)
        if stopped is not None:  # Register runs where others were skipped, and must not here
            raise AirflowSkipException(stopped)
        Ledger.open(home).reopen(request.run_id)
        job = NodeJob(
            home=str(home.root),
            spec_dir=str(spec_dir_of(home, self.pipeline, request.spec_hash)),
            node_id=self.task_id,
            request_path=str(request_path),
            attempt=max(1, ti.try_number),
        )
        self._node_run = NodeRun(job, request_path.with_name(f"{self.task_id}.job.json"), home, self._log_line)
        try:
            result = self._node_run.execute()
        except CTError as error:
            raise (AirflowException if error.retryable else AirflowFailException)(error.message) from error
        if is_stop(result) and TRAINER not in upstream:
            raise AirflowSkipException(result.message)
        if not result.ok:
            raise (AirflowException if result.retryable else AirflowFailException)(result.message)
        self.log.info("%s (%.1f s, peak memory %.0f MB)", result.message, result.seconds, result.peak_rss_mb)
        return result.facts

    def on_kill(self) -> None:
        """Called in the signal handler of SIGTERM, and after a timeout."""
        if self._node_run is not None:
            self._node_run.cancel()

    def _log_line(self, line: str) -> None:
        if line.startswith("WARNING"):
            self.log.warning("%s", line.removeprefix("WARNING: "))
        elif line.startswith(("ERROR", "CRITICAL", "FATAL")):
            self.log.error("%s", line)
        else:
            self.log.info("%s", line)


def _refuse_without_answer(ti: RuntimeTaskInstanceProtocol, run_id: str, asked: tuple[Outcome, ...]) -> None:
    """Raises AirflowFailException when a person is to be asked and nobody was: somebody marked the asking task by hand."""
    outcome = (ti.xcom_pull(task_ids=GATE) or {}).get("outcome")
    if outcome in [found.value for found in asked]:
        raise AirflowFailException(
            f"The gate's outcome of run {run_id} is {outcome}, and counts only with a person's answer, which is not on record. "
            f"Nothing was registered or rolled out. Clear the task {APPROVAL} to ask."
        )


def _require_approval(ti: RuntimeTaskInstanceProtocol, approval: Approval | None) -> None:
    """Raises AirflowSkipException unless the person whom the policy asks, or else the gate, approved."""
    if approval is not None:
        if not approval.approved:
            raise AirflowSkipException(f"{approval.by} rejected the candidate: {approval.reason}")
        return
    verdict = ti.xcom_pull(task_ids=GATE) or {}
    if verdict.get("outcome") != Outcome.APPROVED.value:
        raise AirflowSkipException(f"The gate did not approve: {verdict.get('reason', 'it has not judged')}")


def _refuse_withheld(ti: RuntimeTaskInstanceProtocol) -> None:
    """Raises AirflowSkipException when the version that was registered may not serve, although the candidate was approved."""
    registered = ti.xcom_pull(task_ids=REGISTER) or {}
    if registered.get("withheld"):
        raise AirflowSkipException(f"Version {registered['version']} is withheld: {registered['withheld']}")
