"""`ct events`: what was seen in the sources, and what became of each; with `--saved`, what runs that were skipped saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ct.cli.output import SECONDS_A_MINUTE, SECONDS_AN_HOUR, ago, json_option, print_json, print_table

if TYPE_CHECKING:
    from ct.home import Home
    from ct.triggers.ledger import Ledger
    from ct.triggers.records import EventEnd
    from ct.triggers.savings import Savings


@click.command()
@click.argument("pipeline", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Events of each pipeline.")
@click.option("--saved", is_flag=True, help="Sum the compute that runs saved which were skipped before training.")
@json_option
def events(pipeline: str | None, limit: int, saved: bool, as_json: bool) -> None:  # noqa: FBT001
    """What landed, newest first, and what became of it: consumed, waiting, superseded, duplicate, rejected, incomplete.

    Of all deployed pipelines, or of PIPELINE.
    """
    from ct.deploy import deployed_pipelines, deployed_spec  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.triggers.ledger import Ledger  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    ledger = Ledger.open(home)
    if pipeline is not None:
        deployed_spec(home, pipeline)
    pipelines = deployed_pipelines(home) if pipeline is None else (pipeline,)
    if saved:
        _tell_saved(ledger, pipelines, as_json=as_json)
        return
    found = [end for name in pipelines for end in _ends(home, ledger, name, limit)]
    found.sort(key=lambda end: end.event.at, reverse=True)
    if as_json:
        print_json([end.model_dump(mode="json") for end in found])
    elif not found:
        click.echo(f"no events yet; drop a span into {home.landing / (pipeline or '<pipeline>')}")
    else:
        header = ("landed", "pipeline", "span", "revision", "seen as", "became", "why")
        print_table(None, header, [_row(end) for end in found])


def _ends(home: Home, ledger: Ledger, pipeline: str, limit: int) -> tuple[EventEnd, ...]:
    from ct.config import PipelineConfig  # noqa: PLC0415
    from ct.deploy import deployed_spec  # noqa: PLC0415

    config = PipelineConfig.model_validate(deployed_spec(home, pipeline).config)
    return ledger.ends(pipeline, config.trigger, limit)


def _row(end: EventEnd) -> tuple[object, ...]:
    event = end.event
    return (
        ago(event.at),
        event.pipeline,
        event.name or None,
        event.revision,
        event.outcome.value,
        end.end.value,
        end.why,
    )


def _tell_saved(ledger: Ledger, pipelines: tuple[str, ...], *, as_json: bool) -> None:
    from ct.triggers.savings import savings  # noqa: PLC0415

    told = [savings(name, ledger.runs(name, limit=None)) for name in pipelines]
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in told])
        return
    for entry in told:
        _print_saved(entry)
    if not told:
        click.echo("no pipeline is deployed; `ct deploy pipelines/flights` deploys the example")


def _print_saved(entry: Savings) -> None:
    skipped = sum(saved.runs for saved in entry.saved)
    if entry.typical_s is None:
        known = f"{skipped} runs were skipped before training; what that saved is unknown until a run has been whole"
    else:
        known = f"about {_duration(entry.seconds or 0)} saved by {skipped} runs that were skipped before training"
    click.echo(f"{entry.pipeline}: {known}")
    for saved in entry.saved:
        about = "" if saved.seconds is None else f", about {_duration(saved.seconds)}"
        click.echo(f"  {saved.cause.value}: {saved.runs} runs{about}")
    if entry.typical_s is not None:
        click.echo(
            f"  an estimate: for each, the median of {entry.rests_on} whole runs, {_duration(entry.typical_s)} from claim to "
            f"end, minus what it took itself"
        )
    if entry.not_counted:
        click.echo(f"  not counted: {entry.not_counted} announcements that found everything taken already")


def _duration(seconds: float) -> str:
    """In the largest fitting unit."""
    for unit, length in (("h", SECONDS_AN_HOUR), ("min", SECONDS_A_MINUTE)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
