"""`ct up`, `ct down`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ct.daemon.status import Status
    from ct.home import Home


@click.command()
@click.option("--detach", is_flag=True, help="Return once everything is healthy; without it, Ctrl-C stops everything.")
def up(detach: bool) -> None:  # noqa: FBT001
    """Start all processes and wait until they are healthy.

    Airflow, MLflow, the warm worker and serving; each is watched and started again when it dies.
    """
    from ct.cli.progress import StartProgress  # noqa: PLC0415
    from ct.daemon.up import stay  # noqa: PLC0415
    from ct.daemon.up import up as start  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415

    home = Home.from_environment().create()
    settings = Settings.load(home)
    click.echo(f"starting in {home.root}")
    with StartProgress() as progress:
        found = start(home, settings, detach=True, on_progress=progress)
    if not progress.told:
        click.echo("everything runs already")
    _print_addresses(found, home)
    if not detach:
        click.echo("Ctrl-C stops everything.")
        stay(home, click.echo)


def _print_addresses(found: Status, home: Home) -> None:
    from ct.airflow.environment import ADMIN, admin_password  # noqa: PLC0415

    for process in found.processes:
        if process.address:
            click.echo(f"  {process.name:<20} {process.address}")
    # For a person at a terminal; elsewhere the folder it is kept in, so that no log holds it.
    password = admin_password(home) if sys.stdout.isatty() else f"in {home.secrets}"
    click.echo(f"Airflow's login is {ADMIN}, password {password}")


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
