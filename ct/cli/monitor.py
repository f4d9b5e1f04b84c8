"""`ct monitor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ct.cli.known import model_store
from ct.cli.output import ago, json_option, print_json, print_table

if TYPE_CHECKING:
    from ct.monitor.records import Decided, Status

SHOWN_DECISIONS = 10


@click.command()
@click.argument("name")
@json_option
def monitor(name: str, as_json: bool) -> None:  # noqa: FBT001
    """Show how the version of NAME that serves compares with the one before, and what the monitor does about it."""
    from ct.errors import ConfigError  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.monitor.monitor import records_of  # noqa: PLC0415

    home = Home.from_environment()
    model_store(home, name)
    records = records_of(home, name)
    status, decisions = records.status(), records.decisions()
    if status is None:
        raise ConfigError(
            f'The monitor has not looked at "{name}" yet. It runs with `ct up`, unless pipeline.yaml says '
            "`monitor: {enabled: false}`. See `ct status`.",
            name=name,
        )
    if as_json:
        shown = status.model_dump(mode="json")
        for signal, found in zip(shown["signals"], status.signals, strict=True):
            signal["state"] = found.state
        print_json({**shown, "decisions": [line.model_dump(mode="json") for line in decisions]})
        return
    _print(status, decisions)


def _print(status: Status, decisions: tuple[Decided, ...]) -> None:
    watch = status.watch
    if watch is not None:
        against = f"version {watch.previous}" if watch.previous else "what the gate measured"
        click.echo(
            f"{status.model}: version {watch.new} is watched against {against} since {watch.since:%Y-%m-%d %H:%M:%S} UTC; "
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
    for line in decisions[-SHOWN_DECISIONS:]:
        what = f"{line.action.value} {line.stage.value}"
        click.echo(f"{line.at:%Y-%m-%d %H:%M:%S} version {line.new}: {what}: {line.detail or line.reason}")


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
