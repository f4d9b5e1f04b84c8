"""`ct doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from ct.cli.output import json_option, print_json
from ct.errors import CTError, HomeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ct.home import Home

GIB = 1024**3
MEMORY_WANTED_GIB = 6
"""Airflow, MLflow, serving, the warm worker and one forked node together took about 5 GiB on flights."""

SHOWN_AT_MOST = 3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: str
    """`ok`, `warn` or `fail`."""
    message: str


@click.command()
@json_option
def doctor(as_json: bool) -> None:  # noqa: FBT001
    """Find what is wrong with this installation.

    Planes and pins, CT_HOME, settings, ports, processes, disk, memory and git. Exits 1 when something must be put right.
    """
    from ct.home import Home  # noqa: PLC0415

    findings = list(_examine(Home.from_environment()))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{finding.state:<5} {finding.name:<10} {finding.message}")
    if any(finding.state == "fail" for finding in findings):
        raise click.exceptions.Exit(1)


def _examine(home: Home) -> Iterator[Finding]:
    yield from _planes()
    yield _asked("home", lambda: _home(home))
    yield _asked("sockets", lambda: _sockets(home))
    yield _asked("settings", lambda: _settings(home))
    yield _asked("ports", lambda: _ports(home))
    if home.exists:
        yield _processes(home)
    yield _asked("disk", lambda: _disk(home))
    yield _memory()
    yield _git()


def _asked(name: str, question: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", question())
    except CTError as error:
        return Finding(name, "fail", error.message)


def _planes() -> Iterator[Finding]:
    """Each environment exists and holds the packages that are pinned."""
    from ct.cli.pins import differences  # noqa: PLC0415
    from ct.planes import Plane, environment, python, requirements  # noqa: PLC0415

    for plane in Plane:
        finding = _asked(plane.value, lambda plane=plane: f"{python(plane)}")  # type: ignore[misc]
        pins = requirements(plane)
        if finding.state == "ok" and pins.exists():
            wrong = differences(pins, environment(plane))
            if wrong:
                shown = ", ".join(wrong[:SHOWN_AT_MOST])
                more = f" and {len(wrong) - SHOWN_AT_MOST} more" if len(wrong) > SHOWN_AT_MOST else ""
                message = f"not as pinned in requirements/{pins.name}: {shown}{more}. Run `make setup`."
                finding = Finding(plane.value, "fail", message)
        yield finding


def _home(home: Home) -> str:
    if not home.exists:
        return f"{home.root} will be made by `ct up`"
    home.check_layout()
    if not os.access(home.root, os.W_OK):
        raise HomeError(f"{home.root} cannot be written by this user. Choose another folder with CT_HOME.")
    return str(home.root)


def _sockets(home: Home) -> str:
    from ct.home import SOCKET_PATH_MAX  # noqa: PLC0415

    path = home.socket("supervisor")
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise HomeError(f"{path} is too long for a Unix socket. Choose a shorter CT_HOME or TMPDIR.")
    return f"in {path.parent}" + ("" if path.parent == home.run else ", because CT_HOME's path is long")


def _processes(home: Home) -> Finding:
    """Healthy, not running, or left behind."""
    from ct.daemon.status import status  # noqa: PLC0415
    from ct.daemon.sweep import INSTANCE, marked  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415

    name = "processes"
    try:
        found = status(home, Settings.load(home))
        left = [] if found.daemon_alive else marked({INSTANCE: home.instance})
    except CTError as error:
        return Finding(name, "fail", error.message)
    ill = [f"{process.name}: {process.problem}" for process in found.processes if not process.healthy]
    if not found.daemon_alive:
        if left:
            message = (
                f"{len(left)} of this home run without the daemon; a heal is under way, or end them with `ct down`"
            )
            return Finding(name, "warn", message)
        return Finding(name, "ok", "nothing runs")
    if ill:
        return Finding(name, "fail", f"{'; '.join(ill)}. See `ct status`.")
    return Finding(name, "ok", f"all {len(found.processes)} are healthy")


def _settings(home: Home) -> str:
    from ct.settings import Settings  # noqa: PLC0415

    settings = Settings.load(home)
    return (
        f"Airflow {settings.airflow_base_url}, MLflow {settings.mlflow_base_url}, serving {settings.serving_base_url}"
    )


def _ports(home: Home) -> str:
    from ct.daemon.preflight import check_ports  # noqa: PLC0415
    from ct.daemon.status import status  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415

    settings = Settings.load(home)
    if home.exists and status(home, settings).daemon_alive:
        return "in use by this home's own processes"
    ports = {"airflow_port": settings.airflow_port, "serving_port": settings.serving_port}
    if not settings.mlflow_url:
        ports["mlflow_port"] = settings.mlflow_port
    check_ports(settings.host, ports)
    return ", ".join(f"{name} {port} is free" for name, port in ports.items())


def _disk(home: Home) -> str:
    from ct.daemon.preflight import check_disk  # noqa: PLC0415

    folder = next(parent for parent in (home.root, *home.root.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    check_disk(home, free_bytes=free)
    return f"{free / GIB:.0f} GiB free"


def _memory() -> Finding:
    import psutil  # noqa: PLC0415

    free = psutil.virtual_memory().available / GIB
    if free < MEMORY_WANTED_GIB:
        return Finding("memory", "warn", f"{free:.1f} GiB available; a run may need {MEMORY_WANTED_GIB} GiB")
    return Finding("memory", "ok", f"{free:.1f} GiB available")


def _git() -> Finding:
    if shutil.which("git") is None:
        return Finding("git", "warn", "not installed; runs will not record the commit of their pipeline")
    return Finding("git", "ok", "runs record the commit of their pipeline")
