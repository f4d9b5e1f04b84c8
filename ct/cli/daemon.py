"""`ct up`, `ct down`, `ct status`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from ct.cli.output import ago, json_option, print_json, print_table

if TYPE_CHECKING:
    from ct.daemon.status import Status
    from ct.home import Home

SHOWN_REFUSALS = 5


@click.command()
@click.option("--detach", is_flag=True, help="Return once everything is healthy; without it, Ctrl-C stops everything.")
def up(detach: bool) -> None:  # noqa: FBT001
    """Start Airflow, MLflow, the warm worker and serving, and wait until they are healthy."""
    from ct.airflow.environment import ADMIN, admin_password  # noqa: PLC0415
    from ct.daemon.up import up as start  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415

    home = Home.from_environment().create()

    def tell(name: str, state: str, seconds: float) -> None:
        if state != "starting":
            click.echo(f"  {seconds:5.1f} s  {name} is {state}")

    def addresses(found: Status) -> None:
        for process in found.processes:
            if process.address:
                click.echo(f"  {process.name:<20} {process.address}")
        click.echo(f"Airflow's login is {ADMIN}, password {_shown(admin_password(home), home)}")

    settings = Settings.load(home)
    click.echo(f"starting in {home.root}")
    addresses(start(home, settings, detach=True, on_progress=tell))
    if not detach:
        click.echo("Ctrl-C stops everything.")
        start(home, settings, detach=False)


def _shown(password: str, home: Home) -> str:
    """The password for a person at a terminal; elsewhere the folder it is kept in, so that no log holds it."""
    return password if sys.stdout.isatty() else f"in {home.secrets}"


@click.command()
def down() -> None:
    """Stop everything, and leave no process behind."""
    from ct.daemon.down import down as stop  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415

    stopped = stop(Home.from_environment(), click.echo)
    if not stopped.was_running and not stopped.swept:
        click.echo("nothing was running")
        return
    click.echo(f"stopped {len(stopped.processes)} processes")
    for left in stopped.swept:
        click.echo(f"  ended {left}, which had been left behind")


@click.command()
@json_option
def status(as_json: bool) -> None:  # noqa: FBT001
    """Processes, what serves, the last run of each pipeline, and spans that wait or were refused."""
    from ct.daemon.status import status as ask  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    found = ask(home, Settings.load(home))
    pipelines = pipelines_of(home)
    if as_json:
        print_json({**found.model_dump(mode="json"), "healthy": found.healthy, "pipelines": pipelines})
        return
    if not found.daemon_alive:
        click.echo(f"nothing runs in {home.root}; start it with `ct up`")
    else:
        _print_processes(found)
    if found.last_heal:
        click.echo(f"healed {ago(found.last_heal.at)}: {found.last_heal.message}")
    for pipeline in pipelines:
        _print_pipeline(pipeline)
    if not pipelines:
        click.echo("no pipeline is deployed; `ct deploy pipelines/flights` deploys the example")


def pipelines_of(home: Home) -> list[dict[str, Any]]:
    """What there is to know of each deployed pipeline, as JSON values."""
    from ct.deploy import deployed_pipelines  # noqa: PLC0415
    from ct.rollout import ModelStore  # noqa: PLC0415
    from ct.triggers.ledger import Ledger  # noqa: PLC0415

    ledger = Ledger.open(home)
    found = []
    for name in deployed_pipelines(home):
        store = ModelStore(home, name)
        desired, last = store.desired(), next(iter(ledger.runs(name, limit=1)), None)
        quarantined = home.quarantine(name)
        found.append(
            {
                "name": name,
                "serving": desired.version if desired else None,
                "since": next((str(entry.at) for entry in reversed(store.history())), None),
                "workers": [worker.model_dump(mode="json") for worker in store.live_workers()],
                "last_run": last.model_dump(mode="json") if last else None,
                "spans": [record.model_dump(mode="json") for record in ledger.spans(name)],
                "quarantine": sorted(str(path) for path in quarantined.glob("*.jsonl")),
                "unsettled": [event.model_dump(mode="json") for event in ledger.unsettled(name)],
            }
        )
    return found


def _print_processes(found: Status) -> None:
    rows = [
        (
            process.name,
            "healthy" if process.healthy else process.problem or process.state,
            process.pid,
            ago(process.since),
            process.restarts,
            process.address,
        )
        for process in found.processes
    ]
    print_table(f"processes in {found.home}", ("process", "state", "pid", "since", "restarts", "address"), rows)


def _print_pipeline(pipeline: dict[str, Any]) -> None:
    serving = f"version {pipeline['serving']}" if pipeline["serving"] else "nothing yet"
    click.echo(f"\n{pipeline['name']} serves {serving}")
    last = pipeline["last_run"]
    if last is None:
        click.echo("  no runs yet; a span that lands starts one")
    else:
        click.echo(f"  last run {last['run_id']}: {last['status']}{': ' + last['message'] if last['message'] else ''}")
    for state in ("waiting", "claimed"):
        names = [record["span"]["name"] for record in pipeline["spans"] if record["state"] == state]
        if names:
            click.echo(f"  {state}: {', '.join(names)}")
    for record in [record for record in pipeline["spans"] if record["state"] == "refused"][-SHOWN_REFUSALS:]:
        click.echo(f"  refused: {record['span']['name']}: {record['reason']}")
    for event in pipeline["unsettled"][:SHOWN_REFUSALS]:
        click.echo(f"  {event['outcome']}: {event['name']}: {event['message']}")
