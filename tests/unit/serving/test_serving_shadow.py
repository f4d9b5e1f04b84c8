"""What a shadow does with mirrored requests: what its version fails on is found and counted, and nothing ends the shadowing."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ct.contracts import Feature
from serving.logs.prediction_files import Answered
from serving.plane.mirror import encode
from serving.rows import BadRequestError, Layout, from_columns
from serving.shadow.candidate import BATCH_ROWS, MAX_PREDICTIONS, Candidate

if TYPE_CHECKING:
    from serving.rows import Rows

LAYOUT = Layout(
    (
        Feature(name="x", dtype="float32"),
        Feature(name="n", dtype="int64"),
        Feature(name="s", dtype="string"),
    )
)
NAN, REFUSED, BROKEN = 1e6, -1.0, -2.0
"""Values of x that the version predicts no number for, takes no rows with, or fails on."""


class Version:
    """Predicts ten times x where it can."""

    version = 7
    manifest = SimpleNamespace(name="trips")
    layout = LAYOUT

    def __init__(self) -> None:
        self.predictions = 0
        self.got: list[Rows] = []

    def predict(self, rows: Rows) -> np.ndarray[Any, Any]:
        self.predictions += 1
        self.got.append(rows)
        _, floats, _ = rows.arrays()
        values = floats[:, 0]
        if (values == REFUSED).any():
            raise BadRequestError
        if (values == BROKEN).any():
            raise ValueError
        return np.where(values == NAN, np.nan, values * 10)


class Told:
    """Stands for the metrics and for the prediction log."""

    def __init__(self) -> None:
        self.codes: Counter[int] = Counter()
        self.differences: list[float] = []
        self.kept: list[Answered] = []
        self.full = False

    def mirrored(self, _model: str, _version: int, code: int, count: int) -> None:
        self.codes[code] += count

    def predicted(self, _model: str, _version: int, _variant: str, predictions: Any) -> None:
        assert np.isfinite(predictions).all()

    def shadowed(self, _model: str, _version: int, differences: Any) -> None:
        self.differences += differences.tolist()

    def add(self, answered: Answered) -> None:
        if self.full:
            raise RuntimeError
        self.kept.append(answered)


def line(*values: float, kept: bool) -> bytes:
    """A request that the champion answered with 1 a row, as its worker writes it."""
    columns = {"x": list(values), "n": [2**62 + 1] * len(values), "s": ["é\n"] * len(values)}
    rows = from_columns(LAYOUT, columns, "inputs")
    return encode(Answered("trips", 6, "champion", "id", "trace", 1.5, rows, [1.0] * len(values)), kept=kept)


def candidate() -> tuple[Candidate, Version, Told]:
    """A candidate, and who tells what it did."""
    version, told = Version(), Told()
    return Candidate(version, told, told), version, told  # type: ignore[arg-type]


def test_a_shadow_gets_the_very_values_that_the_champion_got() -> None:
    """Integers of 64 bits, text with line ends beyond ASCII, whole numbers too large for JSON where floats are asked for."""
    shadow, version, told = candidate()
    shadow.take([line(0.1, 10**25, kept=True)])
    ((strings, floats, ints),) = (rows.arrays() for rows in version.got)
    assert strings.tolist() == [["é\n"]] * 2
    assert floats.tolist() == [[np.float32(0.1)], [np.float32(1e25)]]
    assert ints.tolist() == [[2**62 + 1]] * 2
    (kept,) = told.kept
    assert (kept.version, kept.variant, kept.request_id, kept.trace_id, kept.at) == (7, "shadow", "id", "trace", 1.5)


@pytest.mark.parametrize(("value", "code"), [(NAN, 500), (REFUSED, 400), (BROKEN, 500)])
def test_what_a_version_fails_on_is_counted_alone(value: float, code: int) -> None:
    """One request of a hundred, found among the others; NaN is such a failure. The next batch is predicted as ever."""
    shadow, version, told = candidate()
    shadow.take([line(value, kept=True) if number == 70 else line(0.5, 0.25, kept=True) for number in range(100)])
    assert told.codes == {200: 99, code: 1}
    shadow.take([line(0.1, kept=False)] * 3)
    assert told.codes == {200: 102, code: 1}
    assert told.differences == pytest.approx([4, 1.5] * 99 + [0] * 3)
    assert [kept.predictions for kept in told.kept] == [[5, 2.5]] * 99
    assert version.predictions <= 1 + 2 * 7 + 3


def test_a_version_that_fails_everywhere_takes_a_bounded_time() -> None:
    """Each request is counted as failed, without a prediction for each."""
    shadow, version, told = candidate()
    shadow.take([line(BROKEN, kept=True)] * BATCH_ROWS)
    assert (told.codes, told.kept) == ({500: BATCH_ROWS}, [])
    assert version.predictions < MAX_PREDICTIONS + 10


def test_shadowing_goes_on_when_a_batch_cannot_be_kept_or_read() -> None:
    """Whatever happens to what one batch gave."""
    shadow, _, told = candidate()
    told.full = True
    shadow.take([line(0.1, kept=True)])
    told.full = False
    shadow.take([b"no line of ours"])
    shadow.take([line(0.2, kept=True)])
    assert told.codes == {200: 2}
    assert len(told.kept) == 1


def test_batches_are_bounded() -> None:
    """However many lines a read gave; a request is never cut."""
    shadow, version, told = candidate()
    shadow.take([line(*[0.1] * 100, kept=False)] * 7)
    assert [rows.count for rows in version.got] == [300, 300, 100]
    assert told.codes == {200: 7}
