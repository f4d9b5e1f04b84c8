"""When a batch waits for company."""

from __future__ import annotations

from serving.plane.pace import LONG_WAIT_S, WAIT_S, WINDOW_S, Pace


class Clocks:
    """Wall and CPU time, moved by hand."""

    now = cpu = 0.0

    def pass_time(self, load: float) -> None:
        """Half a window at a load."""
        self.now += WINDOW_S / 2
        self.cpu += WINDOW_S / 2 * load


def test_a_batch_waits_only_while_the_loop_is_busy_and_somebody_may_come() -> None:
    """Longer when the loop is very busy; idle again, it waits no more; with nobody to wait for, never."""
    clocks, may_come = Clocks(), [True]
    pace = Pace(lambda: may_come[0], lambda: clocks.now, lambda: clocks.cpu)
    assert pace.wait_s() == 0
    for load, wait_s in ((0.7, WAIT_S), (0.5, 0), (0.9, LONG_WAIT_S), (0.7, WAIT_S), (0.0, 0), (1.0, LONG_WAIT_S)):
        for _ in range(4):
            clocks.pass_time(load)
            pace.wait_s()
        assert pace.wait_s() == wait_s
    may_come[0] = False
    assert pace.wait_s() == 0
