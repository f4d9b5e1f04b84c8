"""`ct schema`: what the pipeline's data must look like, and the edit that accepts what is new."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ct.cli.output import json_option, print_json, print_table
from ct.errors import ConfigError

if TYPE_CHECKING:
    from ct.cli.found import Found
    from ct.home import Home
    from ct.training.findings import Finding

SCHEMA_FILE = "schema.pbtxt"


@click.command()
@click.argument("pipeline")
@click.argument("action", required=False, type=click.Choice(["accept"]))
@click.argument("anomaly", required=False)
@click.option(
    "--pipeline-dir", type=click.Path(path_type=Path), help="The pipeline's folder.  [default: pipelines/PIPELINE]"
)
@click.option("--dry-run", is_flag=True, help="Show the difference and change nothing.")
@click.option("--deploy", "and_deploy", is_flag=True, help="Deploy the pipeline after the edit.")
@json_option
def schema(
    pipeline: str,
    action: str | None,
    anomaly: str | None,
    pipeline_dir: Path | None,
    dry_run: bool,  # noqa: FBT001  click passes flags so
    and_deploy: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """The schema of PIPELINE, and what the newest run that found any anomaly has found.

    `ct schema PIPELINE accept ANOMALY` edits schema.pbtxt so that the data is as agreed. ANOMALY is a feature's name, or an id
    from the list.
    """
    from ct.cli.found import newest_found  # noqa: PLC0415
    from ct.deploy import deployed_spec  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.triggers.ledger import Ledger  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    spec = deployed_spec(home, pipeline)
    found = newest_found(home, Ledger.open(home), pipeline)
    if action is None:
        _show(home, pipeline, spec.spec_hash, found, as_json=as_json)
        return
    if anomaly is None:
        raise click.UsageError(f"which one? `ct schema {pipeline}` lists what was found")
    finding = choose(found, anomaly, pipeline)
    folder = _folder(pipeline, pipeline_dir)
    difference = accept(home, folder, finding, dry_run=dry_run)
    changed = not dry_run
    if as_json:
        told = {
            "finding": {"id": finding.id, **finding.model_dump(mode="json")},
            "diff": difference,
            "changed": changed,
        }
        print_json(told)
    else:
        click.echo(difference, nl=False)
    if changed:
        _next(home, folder, and_deploy=and_deploy)


def choose(found: tuple[Found, ...], anomaly: str, pipeline: str) -> Finding:
    """The finding of this id, or of this feature.

    Raises:
        ConfigError: there is none, or a feature has several.
    """
    every = {finding.id: finding for place in found for finding in place.findings}
    matching = [finding for finding in every.values() if anomaly in (finding.id, finding.feature)]
    acceptable = [finding for finding in matching if finding.acceptable]
    if len(acceptable) == 1:
        return acceptable[0]
    if len(acceptable) > 1:
        ids = ", ".join(f"{finding.id} ({finding.type})" for finding in acceptable)
        raise ConfigError(f'"{anomaly}" has several anomalies: {ids}. Nothing was changed. Accept one by its id.')
    if matching:
        return matching[0]  # the training plane knows why it cannot be accepted, and what to do instead
    listed = ", ".join(f"{finding.id} ({finding.feature})" for finding in every.values()) or "none"
    raise ConfigError(
        f'Nothing was found for "{anomaly}" (found: {listed}). Nothing was changed. See `ct schema {pipeline}`.',
        anomaly=anomaly,
    )


def accept(home: Home, folder: Path, finding: Finding, *, dry_run: bool) -> str:
    """Edit the schema in a pipeline's folder; the unified difference.

    Raises:
        ConfigError: the finding cannot be accepted by an edit, or the file cannot be edited.
    """
    from ct.cli.training_plane import ask_training_plane  # noqa: PLC0415
    from ct.config import load_pipeline_config  # noqa: PLC0415
    from ct.home import write_atomically  # noqa: PLC0415

    path = folder / SCHEMA_FILE
    before = path.read_text(encoding="utf-8")
    label = load_pipeline_config(folder).label
    request = {"schema": str(path.resolve()), "label": label, "accept": finding.model_dump(mode="json")}
    after = str(ask_training_plane("ct.training.schema_edit", request, home)["text"])
    if not dry_run:
        write_atomically(path, after)
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{SCHEMA_FILE}", f"b/{SCHEMA_FILE}"
    )
    return "".join(lines)


def _show(home: Home, pipeline: str, spec_hash: str, found: tuple[Found, ...], *, as_json: bool) -> None:
    from ct.cli.training_plane import ask_training_plane  # noqa: PLC0415
    from ct.deploy import spec_dir_of  # noqa: PLC0415

    path = spec_dir_of(home, pipeline, spec_hash) / "code" / pipeline / SCHEMA_FILE
    features: list[dict[str, Any]] = ask_training_plane("ct.training.schema_edit", {"schema": str(path)}, home)[
        "features"
    ]
    if as_json:
        listed = [
            {"by": place.by, "id": finding.id, "acceptable": finding.acceptable, **finding.model_dump(mode="json")}
            for place in found
            for finding in place.findings
        ]
        print_json({"pipeline": pipeline, "spec_hash": spec_hash, "features": features, "found": listed})
        return
    rows = [(row["name"], row["type"], "yes" if row["required"] else "no", row["values"]) for row in features]
    print_table(f"{pipeline}, spec {spec_hash}", ("feature", "type", "required", "values"), rows)
    for place in found:
        _print_found(place)
    if not found:
        click.echo("nothing was found in the data of any run")
    elif any(finding.acceptable for place in found for finding in place.findings):
        click.echo(f"`ct schema {pipeline} accept ID` edits {SCHEMA_FILE}; --dry-run shows the difference only")


def _print_found(place: Found) -> None:
    rows = [
        (
            finding.id,
            finding.feature,
            finding.kind.value,
            finding.action,
            "yes" if finding.acceptable else "no",
            finding.message,
        )
        for finding in place.findings
    ]
    print_table(f"found by {place.by}", ("id", "feature", "kind", "action", "can accept", "what"), rows)


def _folder(pipeline: str, given: Path | None) -> Path:
    """The folder to edit; the working directory's `pipelines/<name>` unless another is given."""
    from ct.config import load_pipeline_config  # noqa: PLC0415

    folder = given or Path("pipelines") / pipeline
    if not (folder / SCHEMA_FILE).is_file():
        raise ConfigError(
            f"There is no {folder / SCHEMA_FILE}. Nothing was changed. Name the folder that {pipeline} is deployed from with "
            "--pipeline-dir.",
            folder=str(folder),
        )
    name = load_pipeline_config(folder).name
    if name != pipeline:
        raise ConfigError(
            f"{folder} is the pipeline {name}, not {pipeline}. Nothing was changed. Name its folder with --pipeline-dir.",
            folder=str(folder),
        )
    return folder


def _next(home: Home, folder: Path, *, and_deploy: bool) -> None:
    if not and_deploy:
        click.echo(f"{folder / SCHEMA_FILE} is changed; `ct deploy {folder}` makes runs use it", err=True)
        return
    from ct.deploy import deploy  # noqa: PLC0415

    outcome = deploy(folder, home, on_line=lambda line: click.echo(line, err=True))
    click.echo(f"deployed {outcome.spec.pipeline} (spec {outcome.spec.spec_hash})", err=True)
    click.echo(f"`ct trigger {outcome.spec.pipeline} --retry-refused` tries refused spans again", err=True)
