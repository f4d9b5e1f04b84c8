"""`ct labels`."""

from __future__ import annotations

from pathlib import Path

import click

from ct.cli.known import model_store
from ct.cli.output import json_option, print_json


@click.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def labels(name: str, file: Path, as_json: bool) -> None:  # noqa: FBT001
    """Say what really happened to rows that NAME predicted.

    FILE is CSV or Parquet with `request_id`, the label's column (0 or 1), and `row`, from 0 on, where a request had several
    rows. A wrong line refuses the whole file. The same labels twice change nothing; a corrected label counts.
    """
    from dataclasses import asdict  # noqa: PLC0415

    from ct.errors import ConfigError  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.monitor.labels import LabelStore  # noqa: PLC0415

    home = Home.from_environment()
    store = model_store(home, name)
    desired = store.desired()
    if desired is None:
        raise ConfigError(f'Nothing serves as "{name}" yet, so there is nothing to label.', name=name)
    column = store.manifest(desired.version).label
    added = LabelStore(home, name).add(file, column)
    if as_json:
        print_json({"name": name, "column": column, **asdict(added)})
        return
    click.echo(f"{name}: {added.new} labels are new, {added.corrected} corrected, {added.known} known already")
    if added.unlogged:
        click.echo(
            f"{added.unlogged} are of rows that the prediction log does not have, and compare nothing: it keeps a sample "
            "(`prediction_log_share`)"
        )
