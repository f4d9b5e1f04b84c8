"""`ct monitor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ct.cli.known import model_store
from ct.cli.output import ago, json_option, print_json, print_table

if TYPE_CHECKING:
    from ct.monitor.records import Status

SHOWN_DECISIONS = 10


@click.command()
@click.argument("name")
@json_option
def monitor(name: str, as_json: bool) -> None:  # noqa: FBT001
    """Show how the version of NAME that serves compares with the one before, and what the monitor does about it.

    Likewise of a canary, which is compared with the version that serves beside it.
    """
    from ct.errors import ConfigError  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.monitor.monitor import records_of  # noqa: PLC0415

    home = Home.from_environment()
    desired = model_store(home, name).desired()
    records, canaries = records_of(home, name), records_of(home, name, "canary")
    status, canary = records.status(), canaries.status()
    if desired is None or desired.canary is None:
        canary = None
    decisions = sorted((*records.decisions(), *canaries.decisions()), key=lambda line: line.at)
    if status is None:
        raise ConfigError(
            f'The monitor has not looked at "{name}" yet. It runs with `ct up`, unless pipeline.yaml says '
            "`monitor: {enabled: false}`. See `ct status`.",
            name=name,
        )
    if as_json:
        told = [line.model_dump(mode="json") for line in decisions]
        print_json({**_json(status), "canary": _json(canary) if canary else None, "decisions": told})
        return
    for each in (status, canary):
        if each is not None:
            _print(each)
    for line in decisions[-SHOWN_DECISIONS:]:
        what = f"{line.action.value} {line.stage.value}"
        click.echo(f"{line.at:%Y-%m-%d %H:%M:%S} version {line.new}: {what}: {line.detail or line.reason}")


def _json(status: Status) -> dict[str, Any]:
    shown = status.model_dump(mode="json")
    for signal, found in zip(shown["signals"], status.signals, strict=True):
        signal["state"] = found.state
    return shown


def _print(status: Status) -> None:
    watch = status.watch
    if watch is not None:
        against = f"version {watch.previous}" if watch.previous else "what the gate measured"
        which = "canary version" if watch.variant == "canary" else "version"
        click.echo(
            f"{status.model}: {which} {watch.new} is watched against {against} since {watch.since:%Y-%m-%d %H:%M:%S} UTC; "
            f"looked {ago(status.at)}"
        )
        print_table(
            None,
            ("signal", "state", "value", "against", "worse by", "interval", "tolerance", "rows", "about"),
            [
                (
                    *(
                        signal.name,
                        signal.state,
                        _short(signal.value),
                        _short(signal.reference),
                        _short(signal.worse_by),
                    ),
                    "-" if signal.low is None else f"{_short(signal.low)} .. {_short(signal.high)}",
                    *(f"{signal.tolerance:g}", signal.rows, signal.note),
                )
                for signal in status.signals
            ],
        )
    click.echo(f"{status.decision.action.value}: {status.decision.reason}")
    for problem in status.problems:
        click.echo(f"problem: {problem}")


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
