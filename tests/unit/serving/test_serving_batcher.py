"""The micro-batcher: what shares a batch, what is refused, and that every request is answered once."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ct.contracts import Feature
from serving.plane.batcher import MAX_BATCH_ROWS, Batcher, OverloadedError, PredictionError
from serving.plane.pace import Pace
from serving.rows import Layout, Rows, from_columns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LAYOUT = Layout((Feature(name="x", dtype="float32"),))


def rows(*values: float) -> Rows:
    """A row a value."""
    return from_columns(LAYOUT, {"x": list(values)}, "inputs")


class Version:
    """Predicts ten times x, remembers its batches, and can hang or fail."""

    version = 1

    def __init__(self, *, inline_rows: int = 64) -> None:
        self.inline_rows = inline_rows
        self.batches: list[list[float]] = []
        self.ran_in: set[threading.Thread] = set()
        self.may_go = threading.Event()
        self.may_go.set()

    def predict(self, batch: Rows) -> np.ndarray[Any, Any]:
        self.may_go.wait()
        values = batch.arrays()[0][:, 0]
        self.batches.append(values.tolist())
        self.ran_in.add(threading.current_thread())
        if (values < 0).any():
            raise ValueError("negative\nsecond line")
        return np.where(values > 1000, np.nan, values * 10)


class Answers:
    """Collects what `done` is told, a request a slot."""

    def __init__(self) -> None:
        self.got: dict[int, list[Any]] = {}
        self.changed = asyncio.Event()

    def slot(self, number: int) -> Callable[[Any, Any], None]:
        """The `done` of a request."""

        def done(predictions: Any, error: Any) -> None:
            self.got.setdefault(number, []).append(predictions.tolist() if error is None else error)
            self.changed.set()

        return done

    async def until(self, count: int) -> None:
        """Wait until so many requests are answered."""
        while len(self.got) < count:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 10)


def run(
    story: Callable[[Batcher, Answers], Awaitable[None]],
    version: Version,
    *,
    max_waiting_rows: int = 10_000,
    timeout_s: float = 10,
) -> list[tuple[int, int]]:
    """Run a story on an event loop; gives (rows, rows waiting) of each batch as it was observed."""
    observed: list[tuple[int, int]] = []

    async def main() -> None:
        with ThreadPoolExecutor(1) as threads:
            batcher = Batcher(
                version,  # type: ignore[arg-type]
                threads,
                max_waiting_rows=max_waiting_rows,
                timeout_s=timeout_s,
                pace=Pace(lambda: False),
                observe=lambda count, _seconds, waiting: observed.append((count, waiting)),
            )
            try:
                await story(batcher, Answers())
            finally:
                version.may_go.set()

    asyncio.run(main())
    return observed


def test_what_arrives_in_one_turn_of_the_loop_is_one_batch() -> None:
    """And each request gets its own rows back, in order."""
    version = Version()

    async def story(batcher: Batcher, answers: Answers) -> None:
        for number in range(3):
            batcher.submit(rows(number, number + 0.5), answers.slot(number))
        await answers.until(3)
        assert answers.got == {0: [[0, 5]], 1: [[10, 15]], 2: [[20, 25]]}

    assert run(story, version) == [(6, 0)]


def test_what_queues_while_a_batch_runs_is_the_next_batch() -> None:
    """A batch that is not quick runs in a thread, and the loop goes on."""
    version = Version(inline_rows=0)

    async def story(batcher: Batcher, answers: Answers) -> None:
        version.may_go.clear()
        batcher.submit(rows(1), answers.slot(0))
        await asyncio.sleep(0)
        for number in (1, 2):
            batcher.submit(rows(number), answers.slot(number))
        assert batcher.waiting_rows == 2
        version.may_go.set()
        await answers.until(3)

    run(story, version)
    assert version.batches == [[1], [1, 2]]


def test_a_batch_of_several_requests_is_bounded() -> None:
    """One larger request is a batch of its own."""
    version = Version(inline_rows=10_000)

    async def story(batcher: Batcher, answers: Answers) -> None:
        batcher.submit(rows(*[1.0] * (MAX_BATCH_ROWS - 1)), answers.slot(0))
        batcher.submit(rows(1, 2), answers.slot(1))
        batcher.submit(rows(*[1.0] * (MAX_BATCH_ROWS * 2)), answers.slot(2))
        await answers.until(3)

    run(story, version)
    assert [len(batch) for batch in version.batches] == [MAX_BATCH_ROWS - 1, 2, MAX_BATCH_ROWS * 2]


def test_a_full_queue_refuses_and_keeps_what_waits() -> None:
    """Nothing piles up without a bound; what had a place is answered."""
    version = Version(inline_rows=0)

    async def story(batcher: Batcher, answers: Answers) -> None:
        version.may_go.clear()
        batcher.submit(rows(1), answers.slot(0))
        await asyncio.sleep(0)
        batcher.submit(rows(2, 3, 4), answers.slot(1))
        with pytest.raises(OverloadedError, match="3 rows wait already; 4 may"):
            batcher.submit(rows(5, 6), answers.slot(2))
        version.may_go.set()
        await answers.until(2)
        assert sorted(answers.got) == [0, 1]

    run(story, version, max_waiting_rows=4)


def test_a_request_that_waits_for_too_long_is_answered_once() -> None:
    """Also when the model hangs in its thread; its late predictions go nowhere."""
    version = Version(inline_rows=0)

    async def story(batcher: Batcher, answers: Answers) -> None:
        version.may_go.clear()
        batcher.submit(rows(1), answers.slot(0))
        await asyncio.sleep(0)
        batcher.submit(rows(2), answers.slot(1))
        await answers.until(2)
        assert all(isinstance(answer, OverloadedError) for (answer,) in answers.got.values())
        version.may_go.set()
        batcher.submit(rows(3), answers.slot(2))
        await answers.until(3)
        assert answers.got[2] == [[30]]
        assert all(len(answered) == 1 for answered in answers.got.values())

    run(story, version, timeout_s=0.05)
    assert version.batches == [[1], [3]]


def test_a_request_that_the_model_cannot_take_fails_alone() -> None:
    """Those in its batch are answered; the message is one line."""

    async def story(batcher: Batcher, answers: Answers) -> None:
        for number, value in enumerate((1, -1, 2)):
            batcher.submit(rows(value), answers.slot(number))
        await answers.until(3)
        assert answers.got[0] == [[10]]
        assert answers.got[2] == [[20]]
        (error,) = answers.got[1]
        assert isinstance(error, PredictionError)
        assert str(error) == "version 1 failed: negative"

    run(story, Version())


def test_a_prediction_that_is_no_number_is_an_error() -> None:
    """JSON has no NaN, and a client should not take null for a probability."""

    async def story(batcher: Batcher, answers: Answers) -> None:
        batcher.submit(rows(2000), answers.slot(0))
        await answers.until(1)
        assert "no finite number" in str(answers.got[0][0])

    run(story, Version())


@pytest.mark.parametrize(("inline_rows", "in_threads"), [(0, True), (2000, False)])
def test_the_request_that_a_batch_fails_on_is_found_by_halving(*, inline_rows: int, in_threads: bool) -> None:
    """One among 1,000 costs 20 predictions more, each where a batch of its size runs, and each of them observed."""
    version = Version(inline_rows=inline_rows)

    async def story(batcher: Batcher, answers: Answers) -> None:
        for number in range(1000):
            batcher.submit(rows(-1.0 if number == 700 else number / 2), answers.slot(number))
        await answers.until(1000)
        assert {number: answer for number, (answer,) in answers.got.items() if number != 700} == {
            number: [number * 5] for number in range(1000) if number != 700
        }
        assert isinstance(answers.got[700][0], PredictionError)

    observed = run(story, version)
    assert len(version.batches) <= 1 + 20
    assert [count for count, _ in observed] == list(map(len, version.batches))
    assert (threading.main_thread() in version.ran_in) is not in_threads


def test_requests_that_came_too_late_are_not_predicted_when_their_batch_fails() -> None:
    """They have been answered, and the model has others to see to."""
    version = Version(inline_rows=0)

    async def story(batcher: Batcher, answers: Answers) -> None:
        version.may_go.clear()
        for number, value in enumerate((1, -1, 2)):
            batcher.submit(rows(value), answers.slot(number))
        await answers.until(3)
        version.may_go.set()
        batcher.submit(rows(3), answers.slot(3))
        await answers.until(4)
        assert answers.got[3] == [[30]]

    run(story, version, timeout_s=0.05)
    assert version.batches == [[1, -1, 2], [3]]


@pytest.mark.parametrize("deadlines", [(60, 0.05), (0.05, 60)])
def test_each_request_is_answered_by_its_own_deadline(deadlines: tuple[float, float]) -> None:
    """Its time counts from its arrival, so that one submitted later may be due sooner."""
    version = Version(inline_rows=0)
    soon = deadlines.index(0.05)

    async def story(batcher: Batcher, answers: Answers) -> None:
        now = asyncio.get_running_loop().time()
        version.may_go.clear()
        for number, seconds in enumerate(deadlines):
            batcher.submit(rows(number), answers.slot(number), now + seconds)
        await answers.until(1)
        assert isinstance(answers.got[soon][0], OverloadedError)
        assert list(answers.got) == [soon]
        version.may_go.set()
        await answers.until(2)
        assert answers.got[1 - soon] == [[(1 - soon) * 10]]

    run(story, version)


def test_one_timer_stands_for_all_requests() -> None:
    """Also when an answer that came too late makes its connection submit the next request."""
    version = Version(inline_rows=0)

    async def story(batcher: Batcher, answers: Answers) -> None:
        loop: Any = asyncio.get_running_loop()
        version.may_go.clear()

        def then(_predictions: Any, error: Any) -> None:
            assert isinstance(error, OverloadedError)
            batcher.submit(rows(2), answers.slot(1), loop.time() + 60)
            answers.slot(0)(None, error)

        batcher.submit(rows(1), then, loop.time() + 0.01)
        await answers.until(1)
        timers = [timer for timer in loop._scheduled if not timer.cancelled() and timer._callback == batcher._expire]
        assert len(timers) == 1
        version.may_go.set()
        await answers.until(2)

    run(story, version)


def test_an_answer_that_cannot_be_taken_stops_no_other() -> None:
    """Neither those of its batch nor the batches to come."""

    async def story(batcher: Batcher, answers: Answers) -> None:
        def broken(_predictions: Any, _error: Any) -> None:
            raise RuntimeError

        batcher.submit(rows(1), broken)
        batcher.submit(rows(2), answers.slot(0))
        await answers.until(1)
        batcher.submit(rows(3), answers.slot(1))
        await answers.until(2)
        assert answers.got == {0: [[20]], 1: [[30]]}

    run(story, Version())


@pytest.mark.parametrize("predictions", [np.array(["a"]), np.zeros((1, 1)), np.zeros(2), None])
def test_anything_but_a_number_a_row_is_an_error(predictions: Any) -> None:
    """Whatever a model gives, the request is answered."""
    version = Version()
    version.predict = lambda _: predictions  # type: ignore[method-assign]

    async def story(batcher: Batcher, answers: Answers) -> None:
        batcher.submit(rows(1), answers.slot(0))
        await answers.until(1)
        assert isinstance(answers.got[0][0], PredictionError)

    run(story, version)


def test_a_version_unloads_when_its_last_request_lets_go_of_it() -> None:
    """Not when the garbage collector comes by: its memory is needed for the next version."""

    class Loaded(Version):
        batcher: Batcher

    async def main() -> None:
        with ThreadPoolExecutor(1) as threads:
            version = Loaded()
            alive = weakref.ref(version)
            version.batcher = Batcher(
                version, threads, max_waiting_rows=10, timeout_s=10, pace=Pace(lambda: False), observe=lambda *_: None
            )
            answers = Answers()
            version.batcher.submit(rows(1), answers.slot(0))
            await answers.until(1)
            del version
            assert alive() is None

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()
