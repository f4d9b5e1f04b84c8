"""The first task of a run: take the spans that wait."""

from __future__ import annotations

import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowRuntimeError, AirflowSkipException

from ct.airflow.closing import close_run
from ct.airflow.judging import undecided_spans
from ct.airflow.looking import connection_of, scanner_of
from ct.airflow.scan import INCOMPLETE_AFTER_S, note_unreadable
from ct.config import PipelineConfig
from ct.contracts import RunRequest, TriggerKind
from ct.deploy import deployed_spec
from ct.errors import RegistryError, SourceError
from ct.home import Home, write_atomically
from ct.settings import Settings
from ct.triggers.claims import Ask
from ct.triggers.judging import spans_to_judge_on
from ct.triggers.ledger import Ledger, utc_now
from ct.triggers.records import RunStatus

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk.definitions.context import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from ct.contracts import DeployedSpec
    from ct.triggers.records import Claim, RunRecord

CLAIM = "claim"
TRIGGERS = {
    "asset_triggered": TriggerKind.DATA,
    "scheduled": TriggerKind.SCHEDULE,
    "backfill": TriggerKind.BACKFILL,
}
"""Airflow's run type -> ours; any other is manual."""
GOING_ON = ("queued", "running")
LOOK_AT_MOST_S = 60.0
"""Seconds that the look at the source may take before no further span is fetched, waiting for files to settle included."""
ASKING = (TriggerKind.DATA, TriggerKind.SCHEDULE)
"""Runs that wait for cooldown and rows; a person or a backfill does not."""


class ClaimSpans(BaseOperator):
    """First task: look at the source, take the spans that wait, and write the run's request.

    Without any, or before they are due, the whole run is skipped, with the reason. `{"force": true}` in the run's conf runs on
    the window as it is; `{"retry_refused": true}` tries refused spans again. A backfill runs on the spans that had been seen
    by its date, new ones among them or not. A retry, or clearing this task, gives the same claim and leaves the request as it
    was written; clearing it in a run that was skipped claims anew.
    """

    ui_color = "#e8f0fe"

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline

    def execute(self, context: Context) -> dict[str, Any]:
        """Returns run id, request path and span names, for XCom."""
        home = Home.from_environment()
        ledger = Ledger.open(home)
        spec = deployed_spec(home, self.pipeline)
        config = PipelineConfig.model_validate(spec.config)
        ask = self._ask(context, config)
        self._reconcile(home, ledger, ask, context["ti"])
        if ask.trigger is not TriggerKind.BACKFILL:
            self._look(home, ledger, config)
        claim = ledger.claim(ask)
        if claim is None:
            run = ledger.run_of(self.pipeline, ask.airflow_run_id)
            raise AirflowSkipException(f"Nothing to do: {run.message if run else 'no span is waiting'}.")
        path = home.request_path(claim.run_id)
        if claim.again and path.exists():
            request = RunRequest.model_validate_json(path.read_text(encoding="utf-8"))
            if request.spec_hash != spec.spec_hash:
                self.log.warning("Run %s goes on with spec %s, which it began with.", claim.run_id, request.spec_hash)
        else:
            undecided = undecided_spans(home, ledger, config)
            judged_on = spans_to_judge_on(
                [span.name for span in claim.window], claim.new_spans, undecided, config.gate.wait_spans
            )
            request = self._begin(home, ledger, spec, ask, claim, judged_on)
            write_atomically(path, request.model_dump_json(indent=2))
        new = ", ".join(request.new_spans) or "none"
        judged = ", ".join(span.name for span in request.judged)
        told = "Run %s: %d spans in the window, new: %s; judged on %s"
        self.log.info(told, request.run_id, len(request.spans), new, judged)
        return {"run_id": request.run_id, "request_path": str(path), "new_spans": list(request.new_spans)}

    def _ask(self, context: Context, config: PipelineConfig) -> Ask:
        dag_run = context["dag_run"]
        kind = TRIGGERS.get(str(getattr(dag_run.run_type, "value", dag_run.run_type)), TriggerKind.MANUAL)
        conf = dag_run.conf or {}
        backfill = kind is TriggerKind.BACKFILL
        return Ask(
            pipeline=self.pipeline,
            run_id=_new_run_id(self.pipeline, utc_now()),
            trigger=kind,
            airflow_dag_id=dag_run.dag_id,
            airflow_run_id=dag_run.run_id,
            asked_at=dag_run.run_after,
            max_spans=config.window.max_spans,
            force=backfill or conf.get("force") is True,
            refused_too=conf.get("retry_refused") is True,
            seen_until=dag_run.data_interval_end if backfill else None,
            one_by_one=config.trigger.catch_up == "one_by_one",
            coalescing=config.trigger if kind in ASKING else None,
        )

    def _look(self, home: Home, ledger: Ledger, config: PipelineConfig) -> None:
        """Record what is in the source now: nobody else does where there is no watcher, or not yet what a message announced.

        A source that cannot be read is written down, and the run goes on with what the ledger has.
        """
        until_s = time.monotonic() + LOOK_AT_MOST_S
        incomplete_after_s = INCOMPLETE_AFTER_S if config.trigger.on_data else 0.0
        try:
            scanner = scanner_of(config, home, ledger, connection_of(config), incomplete_after_s=incomplete_after_s)
        except SourceError as error:
            note_unreadable(ledger, self.pipeline, error.message)
            self.log.warning("%s The run goes on with what the ledger has.", error)
            return
        seen = scanner.look(until_s)
        self.log.info("Looked at the source: %s", seen.text)
        if seen.ready_in_s is not None and time.monotonic() + seen.ready_in_s < until_s:
            time.sleep(seen.ready_in_s)  # nothing tells that a file is written to no more but that it is left alone
            self.log.info(
                "Looked again, after %.1f s for what was fresh: %s", seen.ready_in_s, scanner.look(until_s).text
            )

    def _begin(
        self, home: Home, ledger: Ledger, spec: DeployedSpec, ask: Ask, claim: Claim, judged_on: tuple[str, ...]
    ) -> RunRequest:
        request = RunRequest(
            run_id=claim.run_id,
            pipeline=self.pipeline,
            spec_hash=spec.spec_hash,
            trigger=claim.trigger,
            requested_at=claim.requested_at,
            spans=claim.window,
            new_spans=claim.new_spans,
            seed=int(spec.config.get("seed", 1)),
            airflow_dag_id=ask.airflow_dag_id,
            airflow_run_id=ask.airflow_run_id,
            mlflow_run_id=None,
            judged_on=judged_on,
            recipe_hash=spec.recipe_hash,
        )
        before = ledger.run(claim.run_id)
        mlflow_run_id = before.mlflow_run_id if before else None  # a retry after a crash must not begin a second one
        return request.model_copy(
            update={"mlflow_run_id": mlflow_run_id or self._begin_mlflow_run(home, request, spec)}
        )

    def _begin_mlflow_run(self, home: Home, request: RunRequest, spec: DeployedSpec) -> str | None:
        """The MLflow run's id; None, with a warning, when MLflow does not answer."""
        from ct.registry import MlflowRegistry  # noqa: PLC0415  only this task and `finish` talk to MLflow

        try:
            mlflow_run_id = MlflowRegistry(Settings.load(home).mlflow_base_url).begin_run(request, spec)
        except RegistryError as error:
            self.log.warning("%s The run goes on; Register will begin the MLflow run.", error)
            return None
        Ledger.open(home).note_mlflow_run(request.run_id, mlflow_run_id)
        return mlflow_run_id

    def _reconcile(self, home: Home, ledger: Ledger, ask: Ask, ti: RuntimeTaskInstanceProtocol) -> None:
        """Close runs that ended without their last task, so that their spans can be claimed again."""
        for run in ledger.runs(self.pipeline):
            if run.status is not RunStatus.RUNNING or run.airflow_run_id == ask.airflow_run_id:
                continue
            state = _state_of(run, ti)
            if state not in GOING_ON:
                ending = close_run(home, ledger, run.run_id, failed_tasks=[] if state == "success" else ["the run"])
                self.log.warning("Run %s had ended unnoticed (%s): %s", run.run_id, state, ending.message)


def _state_of(run: RunRecord, ti: RuntimeTaskInstanceProtocol) -> str:
    """What Airflow says of another run; `deleted` when it is no longer there."""
    try:
        return str(ti.get_dagrun_state(dag_id=run.airflow_dag_id, run_id=run.airflow_run_id))
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") == HTTPStatus.NOT_FOUND:
            return "deleted"
        raise


def _new_run_id(pipeline: str, now: datetime) -> str:
    return f"{pipeline}-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
