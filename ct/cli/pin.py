"""`ct pin`: versions that garbage collection keeps because somebody said so."""

from __future__ import annotations

import click

from ct.cli.known import model_store
from ct.cli.output import json_option, print_json


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--off", is_flag=True, help="Let `ct gc` have it again.")
@json_option
def pin(*, name: str, version: int | None, off: bool, as_json: bool) -> None:
    """Keep VERSION of NAME from `ct gc`, for as long as it is pinned. Without VERSION: which versions are pinned."""
    from ct.home import Home  # noqa: PLC0415
    from ct.rollout import pin as pin_version  # noqa: PLC0415
    from ct.rollout import unpin  # noqa: PLC0415

    store = model_store(Home.from_environment(), name)
    if version is None:
        if off:
            raise click.UsageError("Say which version to unpin.")
    elif off:
        unpin(store, version)
    else:
        pin_version(store, version)
    pinned = store.pinned()
    if as_json:
        print_json({"name": name, "pinned": list(pinned)})
    else:
        click.echo(f"{name}: pinned versions: {', '.join(map(str, pinned)) or 'none'}")
