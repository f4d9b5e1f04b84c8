"""When a batch waits for company: only while the event loop is busy, 2 ms at most, and only if somebody may come.

A batch costs nearly the same for one row as for ten. While the loop has time to spare, each request is predicted at once. When
requests come evenly and fast, a batch each would use the loop up, and they would queue for it: then the next batch lets a few
gather, and a few more when that is not enough. That keeps the loop's load at about BUSY, whatever the rate.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BUSY = 0.6
"""Share of the time that the loop's thread computes, past which batches wait."""
WAIT_S = 0.001
"""uvloop's timers count in milliseconds."""
VERY_BUSY, LONG_WAIT_S = 0.8, 0.002
"""Past this load queues grow faster than a longer wait costs."""
WINDOW_S = 0.02
"""The load is measured over at least so long."""


class Pace:
    """One worker's; on the event loop's thread only.

    Args:
        may_come: whether another request may come soon: when every open connection waits for an answer already, none will.
        clock: seconds.
        cpu_clock: seconds that this thread has computed.
    """

    def __init__(
        self,
        may_come: Callable[[], bool],
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self.may_come = may_come
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._at = clock()
        self._cpu = cpu_clock()
        self._load = 0.0

    def wait_s(self) -> float:
        """Seconds that the next batch should wait; 0 for none."""
        now = self._clock()
        if now - self._at >= WINDOW_S:
            cpu = self._cpu_clock()
            self._load = (cpu - self._cpu) / (now - self._at)
            self._at, self._cpu = now, cpu
        if self._load <= BUSY or not self.may_come():
            return 0.0
        return WAIT_S if self._load <= VERY_BUSY else LONG_WAIT_S
