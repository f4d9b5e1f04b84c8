"""Shadow traffic: what a candidate fails on is found and counted, and nothing that it does ends the shadowing."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ct.contracts import Feature
from serving.logs.prediction_files import Answered
from serving.plane import shadow
from serving.plane.shadow import BATCH_ROWS, MAX_PREDICTIONS, MAX_WAITING_ROWS, Shadow
from serving.rows import BadRequestError, Layout, from_columns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from serving.rows import Rows

LAYOUT = Layout((Feature(name="x", dtype="float32"),))
NAN, REFUSED, BROKEN = 1e6, -1.0, -2.0
"""Values of x that the candidate predicts no number for, takes no rows with, or fails on."""


class Candidate:
    """Predicts ten times x where it can."""

    version = 7
    manifest = SimpleNamespace(name="trips")

    def __init__(self) -> None:
        self.predictions = 0

    def predict(self, rows: Rows) -> np.ndarray[Any, Any]:
        self.predictions += 1
        values = rows.arrays()[0][:, 0]
        if (values == REFUSED).any():
            raise BadRequestError
        if (values == BROKEN).any():
            raise ValueError
        return np.where(values == NAN, np.nan, values * 10)


class Told:
    """Stands for the metrics and for the prediction log."""

    def __init__(self) -> None:
        self.codes: Counter[int] = Counter()
        self.dropped = 0
        self.differences: list[float] = []
        self.kept: list[Answered] = []
        self.full = False

    def mirrored(self, _model: str, _version: int, code: int, count: int) -> None:
        self.codes[code] += count

    def predicted(self, _model: str, _version: int, _variant: str, predictions: Any) -> None:
        assert np.isfinite(predictions).all()

    def shadowed(self, _model: str, _version: int, differences: Any) -> None:
        self.differences += differences.tolist()

    def shadow_dropped(self, _model: str, _version: int, count: int) -> None:
        self.dropped += count

    def add(self, answered: Answered) -> None:
        if self.full:
            raise RuntimeError
        self.kept.append(answered)


def answered(*values: float) -> Answered:
    """A request that the champion answered with 1 a row."""
    rows = from_columns(LAYOUT, {"x": list(values)}, "inputs")
    return Answered("trips", 6, "champion", "id", None, 0.0, rows, [1.0] * len(values))


def run(monkeypatch: pytest.MonkeyPatch, story: Callable[[Shadow, Told], Awaitable[None]]) -> Told:
    """Run a story with a shadow that gathers for a moment only."""
    monkeypatch.setattr(shadow, "GATHER_S", 0.001)
    told = Told()

    async def main() -> None:
        shadowing = Shadow(told, told)  # type: ignore[arg-type]
        try:
            await story(shadowing, told)
        finally:
            shadowing.close()

    asyncio.run(main())
    return told


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is true of what was told, in the shadow's thread."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  the thread knows no loop
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(("value", "code"), [(NAN, 500), (REFUSED, 400), (BROKEN, 500)])
def test_what_a_candidate_fails_on_is_counted_alone_and_shadowing_goes_on(
    monkeypatch: pytest.MonkeyPatch, value: float, code: int
) -> None:
    """One request of a hundred, found among the others; NaN is such a failure. The next batch is predicted as ever."""
    candidate: Any = Candidate()

    async def story(shadowing: Shadow, told: Told) -> None:
        for number in range(100):
            shadowing.mirror(candidate, answered(value) if number == 70 else answered(0.5, 0.25), kept=True)
        await until(lambda: told.codes.total() == 100)
        assert told.codes == {200: 99, code: 1}
        for _ in range(3):
            shadowing.mirror(candidate, answered(0.1), kept=False)
        await until(lambda: told.codes.total() == 103)

    told = run(monkeypatch, story)
    assert told.codes == {200: 102, code: 1}
    assert told.differences == pytest.approx([4, 1.5] * 99 + [0] * 3)
    assert [(kept.version, kept.variant, kept.predictions) for kept in told.kept] == [(7, "shadow", [5, 2.5])] * 99
    assert candidate.predictions <= 1 + 2 * 7 + 3


def test_a_candidate_that_fails_everywhere_takes_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request is counted as failed, without a prediction for each: the champion's clients need the processor."""
    candidate: Any = Candidate()

    async def story(shadowing: Shadow, told: Told) -> None:
        for _ in range(BATCH_ROWS):
            shadowing.mirror(candidate, answered(BROKEN), kept=True)
        await until(lambda: told.codes.total() == BATCH_ROWS)

    told = run(monkeypatch, story)
    assert (told.codes, told.kept) == ({500: BATCH_ROWS}, [])
    assert candidate.predictions < MAX_PREDICTIONS + 10


def test_shadowing_goes_on_when_a_batch_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens to what one batch gave."""
    candidate: Any = Candidate()

    async def story(shadowing: Shadow, told: Told) -> None:
        told.full = True
        shadowing.mirror(candidate, answered(0.1), kept=True)
        await until(lambda: told.codes.total() == 1)
        await asyncio.sleep(0.05)
        told.full = False
        shadowing.mirror(candidate, answered(0.2), kept=True)
        await until(lambda: told.codes.total() == 2)
        await until(lambda: bool(told.kept))

    run(monkeypatch, story)


def test_rows_past_the_limit_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apart from what the logs lose; what is in the queue is predicted."""
    candidate: Any = Candidate()

    async def story(shadowing: Shadow, told: Told) -> None:
        shadowing.mirror(candidate, answered(*[0.1] * (MAX_WAITING_ROWS - 1)), kept=False)
        shadowing.mirror(candidate, answered(0.1, 0.2), kept=False)
        shadowing.mirror(candidate, answered(0.3), kept=False)
        await until(lambda: told.codes.total() == 2)

    told = run(monkeypatch, story)
    assert (told.dropped, len(told.differences)) == (2, MAX_WAITING_ROWS)
