"""`ct doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from ct.cli.output import json_option, print_json
from ct.errors import CTError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ct.home import Home

GIB = 1024**3
MEMORY_WANTED_GIB = 6
"""Airflow, MLflow, serving, the warm worker and one forked node together took about 5 GiB on flights."""


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
    """Check planes, pins, CT_HOME, ports, disk and memory; exit 1 when something is wrong."""
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
    yield _asked("settings", lambda: _settings(home))
    yield _asked("ports", lambda: _ports(home))
    yield _asked("disk", lambda: _disk(home))
    yield _memory()
    yield _git()


def _asked(name: str, question: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", question())
    except CTError as error:
        return Finding(name, "fail", error.message)


def _planes() -> Iterator[Finding]:
    """Each environment exists and was made from the pins that are checked out."""
    import hashlib  # noqa: PLC0415

    from ct.planes import Plane, environment, python, requirements  # noqa: PLC0415

    for plane in Plane:
        finding = _asked(plane.value, lambda plane=plane: f"{python(plane)}")  # type: ignore[misc]
        stamp = environment(plane) / "ct-setup.json"
        if finding.state == "ok" and stamp.exists():
            made_from = json.loads(stamp.read_text(encoding="utf-8"))["pins"]
            if made_from != hashlib.sha256(requirements(plane).read_bytes()).hexdigest():
                finding = Finding(plane.value, "fail", "its packages are not those of requirements/. Run `make setup`.")
        yield finding


def _home(home: Home) -> str:
    if not home.exists:
        return f"{home.root} will be made by `ct up`"
    home.check_layout()
    return str(home.root)


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
