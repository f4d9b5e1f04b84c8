"""`ct runs`, `ct logs`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from ct.cli.output import ago, json_option, print_json, print_table
from ct.errors import CTError

if TYPE_CHECKING:
    from ct.airflow.api import AirflowApi, TaskInstance
    from ct.home import Home
    from ct.triggers.records import RunRecord
    from ct.verdict_page.record import Question

ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
FOLLOW_POLL_S = 1.0


@click.command()
@click.argument("pipeline", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@json_option
def runs(pipeline: str | None, limit: int, as_json: bool) -> None:  # noqa: FBT001
    """Runs, newest first, and what became of them.

    Of all pipelines, or of PIPELINE.
    """
    from ct.deploy import deployed_spec  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.triggers.ledger import Ledger  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    found = Ledger.open(home).runs(pipeline, limit=limit)
    if pipeline is not None and not found:
        deployed_spec(home, pipeline)  # a name that is not deployed is more likely a typo than a pipeline without runs
    if as_json:
        print_json([{**run.model_dump(mode="json"), "waits_for_person": waits_json(home, run)} for run in found])
    elif not found:
        click.echo(f"no runs yet; drop a span into {home.landing / (pipeline or '<pipeline>')} or use `ct trigger`")
    else:
        header = ("run", "began", "seconds", "spans", "status", "version", "why")
        print_table(None, header, [_row(home, run) for run in found])


def _row(home: Home, run: RunRecord) -> tuple[object, ...]:
    from ct.cli.found import validation_of  # noqa: PLC0415

    seconds = f"{(run.finished_at - run.started_at).total_seconds():.0f}" if run.finished_at else None
    spans = ", ".join(run.spans) or "none new"
    validation = validation_of(home, run.run_id)
    warned = f" ({len(validation.warnings)} data warnings)" if validation and validation.warnings else ""
    question = waits_for_person(home, run)
    status = run.status.value if question is None else "waiting"
    message = run.message if question is None else waiting_line(run.pipeline, question)
    return run.run_id, ago(run.started_at), seconds, spans, status, run.version, message + warned


def waits_for_person(home: Home, run: RunRecord) -> Question | None:
    """The question that a run waits with; None when it does not, or has ended."""
    from ct.triggers.records import RunStatus  # noqa: PLC0415
    from ct.verdict_page.record import open_question  # noqa: PLC0415

    return open_question(home, run.run_id) if run.status is RunStatus.RUNNING else None


def waits_json(home: Home, run: RunRecord) -> dict[str, Any] | None:
    """The same for scripts."""
    question = waits_for_person(home, run)
    return None if question is None else question.model_dump(mode="json")


def waiting_line(pipeline: str, question: Question) -> str:
    """Since when a run waits, what answers it, and what happens if nobody does."""
    default = "approved" if question.approves_by_default else "rejected"
    return (
        f"waits for a person, asked {ago(question.asked_at)}: `ct approve {pipeline}` or `ct reject {pipeline}`; "
        f"{default} at {question.until.astimezone():%Y-%m-%d %H:%M} if nobody answers"
    )


@click.command()
@click.argument("run_id")
@click.option("--node", help="A node such as Trainer; without it, the run's tasks are listed.")
@click.option("--follow", is_flag=True, help="Go on until the node has ended.")
def logs(run_id: str, node: str | None, follow: bool) -> None:  # noqa: FBT001
    """The tasks of a run, or the log of one of its nodes."""
    from ct.airflow.api import AirflowApi  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415
    from ct.triggers.ledger import Ledger  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    run = Ledger.open(home).run(run_id)
    if run is None:
        raise CTError(f"There is no run {run_id}. `ct runs` lists them.", run_id=run_id)
    with AirflowApi(Settings.load(home), home) as airflow:
        if node is None:
            tasks = airflow.task_instances(run.airflow_dag_id, run.airflow_run_id)
            rows = [(task.task_id, task.state or "not yet", task.try_number, _seconds(task)) for task in tasks]
            print_table(None, ("task", "state", "try", "seconds"), rows)
            click.echo(f"`ct logs {run_id} --node TASK` shows a log")
            return
        print_log(airflow, run, node, follow=follow)


def _seconds(task: TaskInstance) -> str | None:
    if task.start_date is None or task.end_date is None:
        return None
    return f"{(task.end_date - task.start_date).total_seconds():.1f}"


def print_log(airflow: AirflowApi, run: RunRecord, node: str, *, follow: bool, poll_s: float = FOLLOW_POLL_S) -> None:
    """Print the log of a node's newest try; with `follow` until the node has ended, each retry included.

    Raises:
        CTError: the run has no such task.
        OrchestratorError: Airflow refused or did not answer.
    """
    shown_try = printed = 0
    while True:
        task = _find_task(airflow.task_instances(run.airflow_dag_id, run.airflow_run_id), run, node)
        if task.try_number != shown_try:
            if shown_try:
                click.echo(f"-- try {task.try_number}")
            shown_try, printed = task.try_number, 0
        if shown_try:
            text = airflow.task_log(run.airflow_dag_id, run.airflow_run_id, task.task_id, shown_try)
            lines = text.splitlines()
            for line in lines[printed:]:
                click.echo(line)
            printed = len(lines)
        if task.state in ENDED or not follow:
            if not printed:
                click.echo(f"{node} has no log: it is {task.state or 'not started yet'}")
            return
        time.sleep(poll_s)


def _find_task(tasks: tuple[TaskInstance, ...], run: RunRecord, node: str) -> TaskInstance:
    for task in tasks:
        if task.task_id == node or task.task_id.endswith(f".{node}"):
            return task
    names = ", ".join(task.task_id for task in tasks)
    raise CTError(f"Run {run.run_id} has no task {node}. Its tasks: {names}.", run_id=run.run_id, node=node)
