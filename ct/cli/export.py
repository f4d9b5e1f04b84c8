"""`ct export`: a version as one archive."""

from __future__ import annotations

from pathlib import Path

import click

from ct.cli.output import json_option, print_json


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@click.option(
    "--to", type=click.Path(path_type=Path, dir_okay=False), help="The archive.  [default: NAME-VERSION.tar.gz]"
)
@json_option
def export(name: str, version: int, to: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Write VERSION of the model NAME as one archive: model, record, and a model card.

    It holds everything that is known of the version, and needs nothing of this machine. MLflow need not run; what it has on
    record is then left out, which the card says.
    """
    from ct.cli.known import model_store  # noqa: PLC0415
    from ct.export import export as run  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415

    home = Home.from_environment()
    store = model_store(home, name)
    path = (to or Path(f"{name}-{version}.tar.gz")).resolve()
    done = run(home, store, version, path, mlflow_url=Settings.load(home).mlflow_base_url)
    if as_json:
        print_json({"path": str(done.path), "files": list(done.files), "missing": list(done.missing)})
        return
    for line in done.missing:
        click.echo(f"not in it: {line}", err=True)
    click.echo(f"{done.path}: {len(done.files)} files, {done.path.stat().st_size / 1e6:.1f} MB")
