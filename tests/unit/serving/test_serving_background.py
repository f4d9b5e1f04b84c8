"""What serving's logs share: the writer leaves the interpreter to the event loop, unless so much waits that it would drop."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from serving.logs import background
from serving.logs.background import REST, Background


@pytest.mark.parametrize(("waiting", "rest"), [(0, REST), (25, REST / 2), (50, 0), (100, 0)])
def test_a_writer_rests_while_little_waits_and_hurries_when_much_does(
    monkeypatch: pytest.MonkeyPatch, waiting: int, rest: float
) -> None:
    """For each second of computing REST seconds with an empty buffer of 100, and none with one that is half full."""
    now, rests = [0.0], list[float]()
    monkeypatch.setattr(background, "time", SimpleNamespace(thread_time=lambda: now[0], sleep=rests.append))
    writer = made()
    for number in range(waiting):
        writer.put(number)
    for _ in writer.paced([[1], [2]]):
        now[0] += 0.001
    assert rests == pytest.approx([rest * 0.001] * 2)


def test_a_writer_that_is_to_stop_rests_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little waits: a stop waits for it."""
    now, rests = [0.0], list[float]()
    monkeypatch.setattr(background, "time", SimpleNamespace(thread_time=lambda: now[0], sleep=rests.append))
    writer = made()
    writer.stop()
    for _ in writer.paced([[1]]):
        now[0] += 0.001
    assert rests == [0.0]


def made() -> Background[int]:
    """One that holds 100 items and was not started."""
    return Background(
        "test", lambda _: None, split=lambda items: [items], size=lambda _: 1, limit=100, wake_at=1000, every_s=1.0
    )
