"""`ct`: the group of commands, and the one place that turns errors into messages and exit codes."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING

import click

from ct import __version__
from ct.cli import (
    approve,
    daemon,
    data,
    doctor,
    events,
    export,
    garbage,
    history,
    labels,
    models,
    monitor,
    pin,
    pipelines,
    quarantine,
    replay,
    reproduce,
    rollout,
    runs,
    schema,
    status,
    tokens,
    why,
)
from ct.errors import CTError

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_INTERRUPTED = 130
EXIT_UNEXPECTED = 70
"""EX_SOFTWARE of sysexits.h."""


class InOrder(click.Group):
    """Lists its commands in the order of a day's work, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """The names as they were added."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ct")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:  # noqa: FBT001  click passes flags so
    """Continuous training and serving: from a landed file to a served prediction and back.

    State lives under CT_HOME (default .ct).
    """
    if debug:
        os.environ["CT_DEBUG"] = "1"


for command in (
    *(daemon.up, daemon.down, status.status),
    *(pipelines.sample, pipelines.deploy, pipelines.trigger, runs.runs, runs.logs, events.events),
    *(why.why, approve.approve, approve.reject),
    *(data.data, schema.schema),
    *(models.models, rollout.rollout, rollout.rollback, quarantine.quarantine, pin.pin),
    *(history.history, history.at, replay.replay, labels.labels, monitor.monitor),
    *(reproduce.reproduce, export.export, garbage.gc),
    *(tokens.token, doctor.doctor),
):
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit."""
    try:
        code = cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except click.ClickException as error:
        _for_scripts(error, error.format_message())
        error.show()
        code = error.exit_code
    except CTError as error:
        _for_scripts(error, error.message, **error.facts)
        click.echo(error.message, err=True)
        _show_causes(error)
        _debug(error)
        code = error.exit_code
    except Exception as error:  # noqa: BLE001  the last line of defence: a person gets a sentence, not a traceback
        _for_scripts(error, str(error))
        click.echo(f"ct failed in an unforeseen way: {type(error).__name__}: {error}", err=True)
        click.echo("Run the same with `ct --debug ...` for the traceback, and please report it.", err=True)
        _debug(error)
        code = EXIT_UNEXPECTED
    sys.exit(code if isinstance(code, int) else 0)


def _for_scripts(error: Exception, message: str, **facts: object) -> None:
    """With `--json`, the error as an object on standard output too."""
    if "--json" in sys.argv:
        told = {**facts, "type": type(error).__name__, "message": message}
        click.echo(json.dumps({"error": told}, default=str))


def _show_causes(error: CTError) -> None:
    for cause in _causes(error):
        if str(cause) and str(cause) not in error.message:
            click.echo(f"  because: {type(cause).__name__}: {cause}".splitlines()[0], err=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _debug(error: BaseException) -> None:
    if os.environ.get("CT_DEBUG"):
        click.echo("".join(traceback.format_exception(error)), err=True)


if __name__ == "__main__":
    main()
