"""`ct reproduce`: is a version what its record says? Built again and compared."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from ct.cli.output import json_option, print_json

if TYPE_CHECKING:
    from ct.contracts import NodeResult
    from ct.reproduce import Comparison, Recipe

SHORT = 12
"""Characters of a hash that people compare."""


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-5,
    show_default=True,
    help="Largest absolute difference of a prediction that counts as the same.",
)
@click.option("--anyway", is_flag=True, help="Go on where environment or spec are not those that were recorded.")
@json_option
def reproduce(name: str, version: int, tolerance: float, anyway: bool, as_json: bool) -> None:  # noqa: FBT001
    """Build VERSION of the model NAME again from its record, and compare.

    Data, spec, seed and environment are checked against the record first. Exits with 0 when every prediction is the same
    within the tolerance, with 1 when not. What serves is not touched.
    """
    from ct.cli.known import model_store  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.reproduce import recipe_of  # noqa: PLC0415
    from ct.reproduce import reproduce as run  # noqa: PLC0415

    home = Home.from_environment()
    store = model_store(home, name)
    recipe = recipe_of(home, store, version, anyway=anyway)
    _say_recipe(recipe)
    comparison = run(home, store, recipe, on_node=_say_node, on_line=lambda line: click.echo(f"  {line}", err=True))
    same = comparison.largest <= tolerance
    lines = differences(recipe, comparison, tolerance)
    if as_json:
        print_json({**_as_values(recipe, comparison), "same": same, "tolerance": tolerance, "differences": lines})
    else:
        _say_outcome(recipe, comparison, tolerance, lines, same=same)
    if not same:
        raise click.exceptions.Exit(1)


def differences(recipe: Recipe, comparison: Comparison, tolerance: float) -> list[str]:
    """What is not as recorded, a line each; what only TensorFlow's random ids change is not among them."""
    lines = list(recipe.differences)
    if comparison.examples_difference > tolerance:
        lines.append(
            f"predictions of the {comparison.examples} recorded examples: by up to {comparison.examples_difference:.3g}"
        )
    if comparison.rows_difference > tolerance:
        newest = recipe.manifest.spans[-1].name
        lines.append(f"predictions of {comparison.rows:,} rows of {newest}: by up to {comparison.rows_difference:.3g}")
    if comparison.weights_difference > 0:
        lines.append(f"{comparison.weights:,} weights: by up to {comparison.weights_difference:.3g}")
    return lines


def _say_recipe(recipe: Recipe) -> None:
    """What the version was made from, on standard error: standard output is for the answer."""
    manifest, spec = recipe.manifest, recipe.spec
    twice = ", trained again with the span it was judged on" if manifest.refit else ""
    from ct.reproduce import in_words  # noqa: PLC0415

    own = "; ".join(in_words(made) for made in manifest.made_with) or "which one trained it is not on record"
    for line in (
        f"version {manifest.version} of {manifest.name}: run {manifest.run_id}{twice}",
        f"  data          {_data(recipe)}: every byte is there",
        f"  spec          {spec.spec_hash}, code commit {spec.code_commit or 'unknown'}",
        f"  seed          {manifest.seed}",
        f"  ct            {own}",
        f"  requirements  training {', '.join(sha256[:SHORT] for sha256 in recipe.requirements)}",
        *(f"  differs: {line}" for line in recipe.differences),
    ):
        click.echo(line, err=True)


def _data(recipe: Recipe) -> str:
    size_mb = sum(span.size_bytes for span in recipe.spans) / 1e6
    return f"{len(recipe.spans)} spans, {size_mb:.1f} MB, {recipe.spans[0].name} to {recipe.spans[-1].name}"


def _say_node(result: NodeResult) -> None:
    click.echo(f"  {result.node_id:<13} {result.seconds:5.1f} s  {result.message}".rstrip(), err=True)


def _say_outcome(recipe: Recipe, comparison: Comparison, tolerance: float, lines: list[str], *, same: bool) -> None:
    manifest = recipe.manifest
    what = f"version {manifest.version} of {manifest.name}"
    if same:
        click.echo(
            f"{what}: same. Largest difference {comparison.largest:.3g} over {comparison.examples} recorded examples and "
            f"{comparison.rows:,} rows of {manifest.spans[-1].name}; tolerance {tolerance:g}"
        )
    else:
        click.echo(f"{what}: not the same, tolerance {tolerance:g}. What differs:")
    for line in lines:
        click.echo(f"  - {line}")
    if comparison.saved_model_sha256 != manifest.saved_model_sha256:
        registered, rebuilt = manifest.saved_model_sha256[:SHORT], comparison.saved_model_sha256[:SHORT]
        click.echo(
            f"  files hash to {registered} registered, {rebuilt} rebuilt: TensorFlow writes random ids into a graph"
        )


def _as_values(recipe: Recipe, comparison: Comparison) -> dict[str, Any]:
    manifest, spec = recipe.manifest, recipe.spec
    return {
        "name": manifest.name,
        "version": manifest.version,
        "run_id": manifest.run_id,
        "spec_hash": spec.spec_hash,
        "code_commit": spec.code_commit,
        "made_with": [made.model_dump() for made in manifest.made_with],
        "seed": manifest.seed,
        "spans": [span.name for span in recipe.spans],
        "largest_difference": _finite(comparison.largest),
        "examples": comparison.examples,
        "examples_difference": _finite(comparison.examples_difference),
        "rows": comparison.rows,
        "rows_difference": _finite(comparison.rows_difference),
        "weights": comparison.weights,
        "weights_difference": _finite(comparison.weights_difference),
        "saved_model_sha256": {"registered": manifest.saved_model_sha256, "rebuilt": comparison.saved_model_sha256},
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
