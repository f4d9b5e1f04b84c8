"""`ct data`: a span as a page that a person can read in a browser."""

from __future__ import annotations

import webbrowser
from datetime import datetime, timezone
from pathlib import Path

import click

from ct.cli.output import json_option, print_json


@click.command()
@click.argument("pipeline")
@click.argument("span", required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the page.  [default: under CT_HOME]")
@click.option("--no-open", is_flag=True, help="Only write the page; open no browser.")
@json_option
def data(pipeline: str, span: str | None, out: Path | None, no_open: bool, as_json: bool) -> None:  # noqa: FBT001
    """Statistics, histograms and anomalies of the newest span of PIPELINE, or of SPAN, as a page in the browser.

    The page stands beside the span before. What no run has seen yet is computed now.
    """
    from ct.cli.span_page import gather  # noqa: PLC0415
    from ct.home import Home, write_atomically  # noqa: PLC0415
    from ct.training.data_page import render  # noqa: PLC0415
    from ct.triggers.ledger import Ledger  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    page = gather(home, Ledger.open(home), pipeline, span, now=datetime.now(timezone.utc))
    path = (out or home.artifacts(pipeline) / "pages" / f"{page.span}.html").resolve()
    write_atomically(path, render(page))
    if as_json:
        rows = page.summary.rows if page.summary else None
        findings = page.validation.model_dump(mode="json")["findings"] if page.validation else []
        print_json({"pipeline": pipeline, "span": page.span, "page": str(path), "rows": rows, "findings": findings})
    else:
        click.echo(str(path))
    if not no_open and not webbrowser.open(path.as_uri()):
        click.echo("no browser can be opened here; open the file in yours", err=True)
