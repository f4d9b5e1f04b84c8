"""The question to a person, between the gate and what follows it. In the DAG only where pipeline.yaml's `gate:` asks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from ct.airflow.api import APPROVE, REJECT
from ct.airflow.claim import CLAIM
from ct.airflow.verdict_link import VerdictLink, verdict_path
from ct.contracts import Approval
from ct.home import Home
from ct.verdict_page.record import Question, answer, ask, forget_answer, verdict_of
from ct.verdict_page.words import answered, headline, markdown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk.definitions.context import Context

    from ct.contracts import Outcome

TIME_OUT = "time-out"
NO_REASON = "no reason was given"


class AskForApproval(HITLOperator):
    """Asks a person whether the candidate may serve, with the verdict in front of them, and writes the answer down.

    Answered in Airflow's UI under `Required Actions`, over REST, or by `ct approve` and `ct reject`. While it waits the task is
    parked in the state `awaiting_input`: no process and no worker slot. When nobody needs to be asked it succeeds at once. A
    rejection is an answer and no failure. `approval.json` is on disk before the task succeeds.

    Args:
        pipeline: whose candidate it is.
        asked: the outcomes of the gate that a person is asked about.
        timeout: how long to wait for an answer.
        approves_by_default: what counts as the answer when nobody gives one in time.
    """

    ui_color = "#fef7e0"
    template_fields = ()  # what is shown comes from data, and must not be read as a template
    operator_extra_links = (VerdictLink(),)

    def __init__(
        self, *, pipeline: str, asked: tuple[Outcome, ...], timeout: timedelta, approves_by_default: bool, **kwargs: Any
    ) -> None:
        super().__init__(
            subject=f"May the candidate of {pipeline} serve?",
            options=[APPROVE, REJECT],
            defaults=APPROVE if approves_by_default else REJECT,
            response_timeout=timeout,
            params={
                "reason": Param("", type="string", title="Reason", description="Why; it is kept with the version."),
                "by": Param(
                    None, type=["null", "string"], title="Your name", description="Where several share a user."
                ),
            },
            **kwargs,
        )
        self.pipeline = pipeline
        self.asked = asked
        self.timeout = timeout
        self.approves_by_default = approves_by_default

    def execute(self, context: Context) -> dict[str, Any]:
        """Returns `{"asked": False}` when nobody needs to be asked; else it parks the task."""
        home = Home.from_environment()
        run_id = context["ti"].xcom_pull(task_ids=CLAIM)["run_id"]
        verdict = verdict_of(home, run_id)
        if verdict is None:
            raise AirflowFailException(f"Run {run_id} has no verdict to ask about. Clear the task Gate to judge again.")
        if verdict.outcome not in self.asked:
            forget_answer(home, run_id)
            self.log.info("Nobody is asked. %s %s", headline(verdict, None), verdict.reason)
            return {"asked": False}
        now = datetime.now(timezone.utc)
        question = Question(asked_at=now, until=now + self.timeout, approves_by_default=self.approves_by_default)
        ask(home, run_id, question)
        dag_run = context["dag_run"]
        page = verdict_path(dag_run.dag_id, dag_run.run_id)
        silence = "approved" if self.approves_by_default else "rejected"
        self.subject = f"{self.pipeline}: may the candidate judged on {verdict.span} serve? ({verdict.outcome.value})"
        self.body = "\n\n".join(
            [
                markdown(verdict),
                f"[The verdict's page]({page})",
                f"Without an answer until {question.until:%Y-%m-%d %H:%M} UTC it is {silence}.",
            ]
        )
        parked: dict[str, Any] = super().execute(context)
        return parked

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Called with the answer, or with the default once the time is over. Returns the answer, for XCom."""
        if "error" in event:
            self.process_trigger_event_error(dict(event))
        self.validate_chosen_options(list(event["chosen_options"]))
        run_id = context["ti"].xcom_pull(task_ids=CLAIM)["run_id"]
        approval = approval_from(event, self.timeout)
        answer(Home.from_environment(), run_id, approval)
        self.log.info("%s by %s: %s", answered(approval), approval.by, approval.reason)
        return {"asked": True, **approval.model_dump(mode="json")}


def approval_from(event: Mapping[str, Any], timeout: timedelta) -> Approval:
    """What Airflow hands over when the task goes on, as the record that the version keeps."""
    form: Mapping[str, Any] = event.get("params_input") or {}
    user: Mapping[str, str] | None = event.get("responded_by_user")
    if user is None:
        by, reason = TIME_OUT, f"nobody answered within {timeout}"
    else:
        by, reason = _named(str(form.get("by") or "").strip(), user["name"]), str(form.get("reason") or "").strip()
    approved = list(event["chosen_options"]) == [APPROVE]
    return Approval(approved=approved, by=by, at=event["responded_at"], reason=reason or NO_REASON)


def _named(name: str, user: str) -> str:
    """Airflow knows the user; the name is what that user says."""
    return user if name in ("", user) else f"{name} (as Airflow's {user})"
