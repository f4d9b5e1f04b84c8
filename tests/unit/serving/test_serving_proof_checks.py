"""What a proof's checks find, over a client that answers as told."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ct.contracts import CheckOutcome, Feature
from serving.proof import checks
from serving.proof.client import AnswerError
from tests.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

TOLERANCE = 1e-5
ROWS: dict[str, list[Any]] = {
    "instances": [{"x": number} for number in range(1500)],
    "predictions": [number / 1500 for number in range(1500)],
}


class Answering:
    """Predicts what `predict` says of a row's `x` in a request of so many rows."""

    def __init__(self, predict: Callable[[int, int], float]) -> None:
        self._predict = predict
        self.sizes: list[int] = []

    def predict(self, instances: Sequence[dict[str, Any]]) -> np.ndarray[Any, Any]:
        """One number a row."""
        self.sizes.append(len(instances))
        return np.array([self._predict(instance["x"], len(instances)) for instance in instances])


def agreement(predict: Callable[[int, int], float]) -> checks.Found:
    """The check of a client that predicts so."""
    return checks.agreement(Answering(predict), ROWS, TOLERANCE)  # type: ignore[arg-type]


def test_agreement_within_the_tolerance_passes() -> None:
    """The largest difference is on record."""
    found = agreement(lambda x, _: x / 1500 + 9e-6 * (x == 7))
    assert not found.blocks
    assert found.check.value == pytest.approx(9e-6)
    assert found.check.rows == 1500


@pytest.mark.parametrize("row", [0, 40, 511, 512, 1499])
def test_one_row_that_differs_is_named(row: int) -> None:
    """Whichever request it was in."""
    found = agreement(lambda x, _: x / 1500 + 0.1 * (x == row))
    assert found.blocks
    assert f"of row {row} is {row / 1500 + 0.1:.6f}, offline it was {row / 1500:.6f}" in found.said


def test_rows_are_asked_for_alone_too() -> None:
    """A model that predicts something else for a batch of one does not pass."""
    found = agreement(lambda x, rows: x / 1500 + 0.1 * (rows == 1 and x == 3))
    assert found.blocks
    assert "of row 3 is" in found.said


def test_a_prediction_that_is_no_number_fails() -> None:
    """NaN differs from everything, and JSON has no infinity."""
    found = agreement(lambda x, _: math.nan if x == 5 else x / 1500)
    assert found.blocks
    assert found.check.value is None
    assert checks.Check.model_validate_json(found.check.model_dump_json()) == found.check


def test_a_refused_request_fails() -> None:
    """What the service said is told."""

    def refuse(_: int, __: int) -> float:
        raise AnswerError("candidate", "the answer was 500: out of memory")

    found = agreement(refuse)
    assert found.blocks
    assert "500: out of memory" in found.said


@pytest.mark.parametrize("allow", [False, True])
def test_a_refusal_of_what_clients_send_blocks_unless_allowed(tmp_path: Path, *, allow: bool) -> None:
    """It is on record as failed in either case, with the features that differ."""

    def refuse(_: int, __: int) -> float:
        raise AnswerError("candidate", 'the answer was 400: instances[0] has the unknown feature "x"')

    (tmp_path / "file").write_text("")
    champion, candidate = (
        manifest_of("m", version, tmp_path, features=(Feature(name=name, dtype="int64"),))
        for version, name in ((1, "x"), (2, "y"))
    )
    client: Any = Answering(refuse)
    found = checks.contract(client, candidate, champion, ROWS["instances"][:3], allow_incompatible=allow)
    assert found.blocks == (not allow)
    assert (found.check.outcome, found.check.value) == (CheckOutcome.FAIL, 2.0)
    assert found.said.endswith('has the unknown feature "x"; y (int64) is new; x (int64) is gone')


@pytest.mark.parametrize(
    ("candidate_mb", "champion_mb", "passes"),
    [(31, 3, True), (33, 3, False), (150, 80, True), (170, 80, False), (0, 0, True)],
)
def test_memory_is_limited_beside_the_champions(candidate_mb: float, champion_mb: float, passes: bool) -> None:  # noqa: FBT001
    """A champion below 16 MiB counts as 16."""
    found = checks.memory(candidate_mb, champion_mb, 2.0, 7)
    assert (found.check.outcome is CheckOutcome.PASS) == passes
    assert found.check.difference == champion_mb - candidate_mb
    assert ("above the limit" in found.said) == (not passes)
