"""`ct approve`, `ct reject`: answer the question that a run waits with, over Airflow's REST API."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import click

from ct.cli.output import ago, json_option, print_json
from ct.cli.user import user_name
from ct.errors import CTError, OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ct.airflow.api import AirflowApi, Waiting
    from ct.home import Home
    from ct.triggers.ledger import Ledger

run_option = click.option("--run", "run_id", help="Which run, where several wait; `ct runs` lists them.")
reason_option = click.option("--reason", required=True, help="Why; it is kept with the version.")
by_option = click.option("--by", help="Your name.  [default: the user of this machine]")


def answer_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that both answers have."""
    for option in (json_option, by_option, reason_option, run_option, click.argument("pipeline")):
        command = option(command)
    return command


@click.command()
@answer_options
def approve(pipeline: str, **options: Any) -> None:
    """Let the candidate that waits for a person go on: it is registered and rolled out."""
    _answer(pipeline, approve=True, **options)


@click.command()
@answer_options
def reject(pipeline: str, **options: Any) -> None:
    """Refuse the candidate that waits for a person: it is recorded, and the champion serves on."""
    _answer(pipeline, approve=False, **options)


def _answer(pipeline: str, *, approve: bool, run_id: str | None, reason: str, by: str | None, as_json: bool) -> None:
    from ct.airflow.api import AirflowApi  # noqa: PLC0415
    from ct.deploy import deployed_spec  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415
    from ct.triggers.ledger import Ledger  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    deployed_spec(home, pipeline)
    if not reason.strip():
        raise click.BadParameter("say why, in words that still help in a year.", param_hint="--reason")
    who = by or user_name()
    with AirflowApi(Settings.load(home), home) as airflow:
        ledger = Ledger.open(home)
        waiting = chosen(airflow.waiting(pipeline), home, ledger, pipeline, run_id)
        run = ledger.run_of(pipeline, waiting.run_id)
        name = run.run_id if run else waiting.run_id
        if approve:
            _require_same_baseline(home, pipeline, name)
        _send(airflow, waiting, name, approve=approve, reason=reason.strip(), by=who)
    told = "approved" if approve else "rejected"
    if as_json:
        print_json({"pipeline": pipeline, "run_id": name, "approved": approve, "by": who, "reason": reason.strip()})
        return
    then = "it is registered and rolled out now" if approve else "it is recorded, and what serves now serves on"
    click.echo(f"{told} the candidate of run {name} as {who}; {then}. See `ct runs {pipeline}`")


def _require_same_baseline(home: Home, pipeline: str, run_id: str) -> None:
    from ct.rollout import ModelStore, holds_against  # noqa: PLC0415
    from ct.verdict_page.record import verdict_of  # noqa: PLC0415

    verdict, desired = verdict_of(home, run_id), ModelStore(home, pipeline).desired()
    if verdict is None or desired is None or holds_against(verdict, desired):
        return
    against = "nothing" if verdict.champion_version is None else f"version {verdict.champion_version}"
    raise CTError(
        f"The candidate of run {run_id} was judged against {against}, and version {desired.version} serves now, so it would "
        f"not be rolled out. Nothing was answered. `ct reject {pipeline} --run {run_id} --reason ...` ends the run; "
        f"`ct trigger {pipeline} --force` then judges a candidate against version {desired.version}.",
        pipeline=pipeline,
        run_id=run_id,
        serving=desired.version,
    )


def chosen(waiting: Sequence[Waiting], home: Home, ledger: Ledger, pipeline: str, run_id: str | None) -> Waiting:
    """The question to answer.

    Args:
        waiting: all of the pipeline's.
        home: where answers are on record.
        ledger: knows the runs.
        pipeline: whose questions these are.
        run_id: ct's or Airflow's id of the run that is meant; None when only one can be.

    Raises:
        CTError: nothing waits, several do, or the one that is meant does not.
    """
    ids = {
        each.run_id: run.run_id if (run := ledger.run_of(pipeline, each.run_id)) else each.run_id for each in waiting
    }
    if run_id is not None:
        meant = [each for each in waiting if run_id in (each.run_id, ids[each.run_id])]
        if not meant:
            raise CTError(_not_waiting(home, ledger, pipeline, run_id), pipeline=pipeline, run_id=run_id)
        return meant[0]
    if not waiting:
        raise CTError(
            f"No run of {pipeline} waits for a person. `ct runs {pipeline}` says how the last ones ended; a version that the "
            f"gate did not approve can be rolled out with `ct rollout {pipeline} --version V --force --reason ...`.",
            pipeline=pipeline,
        )
    if len(waiting) > 1:
        lines = [f"  {ids[each.run_id]}  asked {ago(each.created_at)}: {each.subject}" for each in waiting]
        raise CTError(
            "\n".join([f"Several runs of {pipeline} wait for a person; say which one with --run:", *lines]),
            pipeline=pipeline,
            runs=list(ids.values()),
        )
    return waiting[0]


def _not_waiting(home: Home, ledger: Ledger, pipeline: str, run_id: str) -> str:
    from ct.verdict_page.record import approval_of  # noqa: PLC0415
    from ct.verdict_page.words import answered  # noqa: PLC0415

    run = ledger.run(run_id) or ledger.run_of(pipeline, run_id)
    if run is None or run.pipeline != pipeline:
        return f"There is no run {run_id} of {pipeline}. `ct runs {pipeline}` lists them. Nothing was answered."
    approval = approval_of(home, run.run_id)
    if approval is not None:
        told = f"{answered(approval)} by {approval.by} already: {approval.reason}"
        return f"Run {run.run_id} was {told}. Nothing was changed."
    return f"Run {run.run_id} does not wait for a person: it is {run.status.value}. Nothing was answered."


def _send(airflow: AirflowApi, waiting: Waiting, name: str, *, approve: bool, reason: str, by: str) -> None:
    try:
        airflow.answer(waiting, approve=approve, reason=reason, by=by)
    except OrchestratorError as error:
        if error.facts.get("status") != HTTPStatus.CONFLICT:
            raise
        raise CTError(
            f"Somebody else has answered for run {name} just now. Your answer was not taken; `ct why` shows theirs.",
            run_id=name,
        ) from error
