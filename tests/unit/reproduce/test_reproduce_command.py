"""What `ct reproduce` says of a comparison, and what it exits with."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import ct.reproduce
from ct.cli.reproduce import reproduce
from ct.contracts import DeployedSpec, Span
from ct.home import Home
from ct.reproduce import Comparison, Recipe
from ct.rollout import ModelStore
from tests.manifests import MADE_WITH, manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from ct.contracts import MadeWith

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
SAME = Comparison(
    examples=32,
    examples_difference=0.0,
    rows=1000,
    rows_difference=2e-8,
    weights=500,
    weights_difference=0.0,
    saved_model_sha256="0" * 64,
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command on version 1, with a comparison that was made up: the real one takes a training plane."""
    home = Home(tmp_path / "home").create()
    monkeypatch.setenv("CT_HOME", str(home.root))
    saved_model = tmp_path / "model"
    saved_model.mkdir()
    span = Span(
        pipeline="trips",
        name="2026-01",
        revision=1,
        sha256="1" * 64,
        uri="/in",
        format="csv",
        size_bytes=8,
        seen_at=NOW,
    )
    manifest = manifest_of("trips", 1, saved_model).model_copy(update={"spans": (span,), "seed": 3})
    ModelStore(home, "trips").stage(saved_model, manifest, {})
    spec = DeployedSpec(
        spec_hash="s",
        pipeline="trips",
        config={},
        nodes=(),
        readme="",
        deployed_at=NOW,
        code_commit="c",
        requirement_hashes={},
    )

    def make(
        comparison: Comparison,
        *arguments: str,
        differences: tuple[str, ...] = (),
        made_with: tuple[MadeWith, ...] = (),
    ) -> Result:
        made = manifest.model_copy(update={"made_with": made_with})
        recipe = Recipe(made, spec, tmp_path, (span,), differences)
        monkeypatch.setattr(ct.reproduce, "recipe_of", lambda *_, **__: recipe)
        monkeypatch.setattr(ct.reproduce, "reproduce", lambda *_, **__: comparison)
        return CliRunner().invoke(reproduce, ["trips", "1", *arguments])

    return make


def test_the_same_exits_with_0(run: Callable[..., Result]) -> None:
    """It says by how much at most, over how many rows."""
    result = run(SAME)
    assert result.exit_code == 0
    told = "version 1 of trips: same. Largest difference 2e-08 over 32 recorded examples and 1,000 rows of 2026-01"
    assert told in result.stdout
    assert "every byte is there" in result.stderr
    assert "which one trained it is not on record" in result.stderr


def test_what_it_was_made_with_is_said(run: Callable[..., Result]) -> None:
    """As it was at the time of the training, not of the deployment."""
    result = run(SAME, "--json", made_with=(MADE_WITH,))
    assert "ct            cccccccccccc (version 0.1.0, commit c0ffee)" in result.stderr
    assert "requirements  training 222222222222" in result.stderr
    assert json.loads(result.stdout)["made_with"] == [MADE_WITH.model_dump()]


def test_what_differs_is_listed_and_exits_with_1(run: Callable[..., Result]) -> None:
    """Environment, predictions and weights, each with a number."""
    other = replace(SAME, examples_difference=0.25, weights_difference=0.5)
    result = run(other, differences=("requirements of the training plane: a recorded, b now",))
    assert result.exit_code == 1
    lines = [line for line in result.stdout.splitlines() if line.startswith("  - ")]
    assert lines == [
        "  - requirements of the training plane: a recorded, b now",
        "  - predictions of the 32 recorded examples: by up to 0.25",
        "  - 500 weights: by up to 0.5",
    ]


def test_the_tolerance_is_the_callers(run: Callable[..., Result]) -> None:
    """A difference within it is the same, one beyond it is not."""
    assert run(SAME, "--tolerance", "1e-9").exit_code == 1
    assert run(replace(SAME, rows_difference=0.01), "--tolerance", "0.1").exit_code == 0


def test_weights_alone_are_told_and_do_not_decide(run: Callable[..., Result]) -> None:
    """What clients get is what counts."""
    result = run(replace(SAME, weights_difference=1e-9))
    assert result.exit_code == 0
    assert "500 weights: by up to 1e-09" in result.stdout


def test_predictions_that_are_not_finite_differ(run: Callable[..., Result]) -> None:
    """And the JSON stays JSON."""
    result = run(replace(SAME, rows_difference=float("inf")), "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout, parse_constant=pytest.fail)
    assert found["same"] is False
    assert found["rows_difference"] is None
