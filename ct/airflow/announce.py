"""Which waiting spans an asset event must announce now. Imports no Airflow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ct.triggers.coalescing import Wait, WaitingFor

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct.config import TriggerConfig
    from ct.contracts import Span
    from ct.triggers.ledger import Ledger

ANNOUNCE_AGAIN_S = 30.0
"""An announcement that started no run is repeated: Airflow may have lost it, or the DAG was paused."""


class Announcer:
    """Says when a run must be asked for, at least once; not for what an announced run, still to come, will take too.

    Args:
        pipeline: Whose spans these are.
        ledger: Where they wait.
        trigger: When they are due.
        clock: Seconds; does not run backwards.
    """

    def __init__(
        self, pipeline: str, ledger: Ledger, trigger: TriggerConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pipeline = pipeline
        self._ledger = ledger
        self._trigger = trigger
        self._clock = clock
        self._announced: set[tuple[str, int]] = set()
        self._again_at = 0.0
        self._during: str | None = None

    def due(self) -> tuple[Span, ...]:
        """The spans to announce; empty most of the time.

        While a run goes on its follower is announced once: Airflow queues it. The ledger may be wrong about that run, which
        may have been killed; the follower's claim finds out.
        """
        decision = self._ledger.decide(self._pipeline, self._trigger)
        if isinstance(decision, Wait):
            if decision.what is not WaitingFor.RUN or decision.run_id == self._during:
                return ()
            self._during = decision.run_id
        waiting = [record.span for record in self._ledger.waiting(self._pipeline)]
        keys = {(span.name, span.revision) for span in waiting}
        now_s = self._clock()
        if not isinstance(decision, Wait) and now_s < self._again_at and keys & self._announced:
            return ()
        self._announced, self._again_at = keys, now_s + ANNOUNCE_AGAIN_S
        return tuple(waiting)
