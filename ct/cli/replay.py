"""`ct replay`."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import click

from ct.cli.durations import parse_duration
from ct.cli.known import model_store
from ct.cli.output import json_option, print_json, print_table
from ct.errors import CTError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from pathlib import Path

    from ct.home import Home

SHOWN_STDERR_CHARACTERS = 2000


class ReplayFailedError(CTError):
    """A replay gave no report. Nothing that serves was touched."""


@click.command()
@click.argument("name")
@click.option("--version", type=click.IntRange(min=1), required=True, help="The version that predicts the rows again.")
@click.option(
    "--last",
    type=parse_duration,
    default="30m",
    show_default=True,
    metavar="DURATION",
    help="Which requests, such as 30m, 2h or 3d.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="A prediction from here on is a yes; where the decision differs is counted.",
)
@json_option
def replay(name: str, version: int, last: timedelta, threshold: float, as_json: bool) -> None:  # noqa: FBT001
    """Run logged requests of NAME through a version and compare it with what was answered.

    Nothing that serves is touched. Of all requests the share `prediction_log_share` is logged.
    """
    from datetime import datetime, timezone  # noqa: PLC0415

    from ct.home import Home  # noqa: PLC0415
    from ct.planes import Plane, python  # noqa: PLC0415

    home = Home.from_environment()
    model_store(home, name).manifest(version)  # a version that is not there is told before a process starts
    interpreter = python(Plane.SERVING)
    until = datetime.now(timezone.utc)
    period = ("--since", (until - last).isoformat(), "--until", until.isoformat())
    report = _run(home, interpreter, name, version, (*period, "--threshold", str(threshold)))
    if as_json:
        print_json(report)
    else:
        _print(report)


def _run(home: Home, interpreter: Path, name: str, version: int, options: tuple[str, ...]) -> dict[str, Any]:
    """The report of serving.replay.

    Raises:
        ReplayFailedError: it ended with an error, or gave neither report nor error.
    """
    from ct.planes import PROJECT  # noqa: PLC0415

    done = subprocess.run(
        [str(interpreter), "-m", "serving.replay", name, "--version", str(version), *options],
        cwd=PROJECT,
        env={**os.environ, "CT_HOME": str(home.root), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
    )
    try:
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise ReplayFailedError(
            f'Cannot replay "{name}" against version {version}: the serving plane ended with code {done.returncode} and no '
            f"report. Nothing that serves was touched. It said:\n{done.stderr[-SHOWN_STDERR_CHARACTERS:]}",
            name=name,
            version=version,
            code=done.returncode,
        ) from error
    if "error" in told:
        facts = dict(told["error"])
        message = facts.pop("message")
        facts.pop("type")
        raise ReplayFailedError(message, **{"name": name, "version": version, **facts})
    return told


def _print(report: Mapping[str, Any]) -> None:
    name, version = report["name"], report["version"]
    click.echo(f"{name}: {report['rows']} rows of {report['requests']} requests, predicted again by version {version}")
    if report["rows"]:
        _print_numbers(report)
    for what, rows in report["unfit"].items():
        click.echo(f"left out {rows} rows: {what}")
    for feature, rows in report["unknown_features"].items():
        click.echo(
            f'{rows} rows carry "{feature}", which version {version} does not take: '
            "it would answer their clients with 400"
        )
    for file in report["unreadable"]:
        click.echo(f"not read: {file}")


def _print_numbers(report: Mapping[str, Any]) -> None:
    everything = {**report, "version": "all"}
    parts = report["versions"] if len(report["versions"]) > 1 else ()
    print_table(
        "difference to what was answered",
        ("answered by version", "rows", "mean", "largest"),
        [
            (part["version"], part["rows"], _short(part["mean_difference"]), _short(part["largest_difference"]))
            for part in (*parts, everything if parts else {**everything, "version": report["versions"][0]["version"]})
        ],
    )
    print_table(
        "predictions",
        ("", *(f"{100 * each['q']:g} %" for each in report["quantiles"])),
        [(side, *(_short(each[side]) for each in report["quantiles"])) for side in ("answered", "predicted")],
    )
    print_table(
        "rows that differ most",
        ("request", "row", "at", "version", "answered", "predicted"),
        [
            (
                row["request_id"],
                row["row"],
                row["at"],
                row["version"],
                _short(row["answered"]),
                _short(row["predicted"]),
            )
            for row in report["furthest"]
        ],
    )
    click.echo(f"decisions at {report['threshold']:g} that differ: {100 * report['decisions_differ']:.2f} %")
    click.echo(f"Kolmogorov-Smirnov statistic of the two distributions: {_short(report['ks'])}")
    if report["not_finite"]:
        click.echo(f"rows without a finite prediction, on either side: {report['not_finite']}")
    click.echo(f"time: {report['us_per_row']:.1f} us a row, in batches")


def _short(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
