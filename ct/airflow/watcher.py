"""The trigger that Airflow's triggerer runs: it waits for spans to land in a pipeline's folder."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from ct.airflow.scan import Scanner
from ct.home import Home
from ct.sources.folder import FolderSource
from ct.triggers.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class SpanTrigger(BaseEventTrigger):
    """Yields an event for spans that landed, once they are in the ledger.

    Events are at least once. After a restart, spans that no run has taken are announced again; a run that finds nothing
    to claim is skipped.
    """

    def __init__(
        self, *, home: str, pipeline: str, folder: str, pattern: str, poll_interval_s: float, settle_s: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.home = home
        self.pipeline = pipeline
        self.folder = folder
        self.pattern = pattern
        self.poll_interval_s = poll_interval_s
        self.settle_s = settle_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow stores: the class and its arguments."""
        names = ("home", "pipeline", "folder", "pattern", "poll_interval_s", "settle_s")
        return "ct.airflow.watcher.SpanTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the folder again and again. Reading, hashing and the ledger are off the event loop."""
        scanner = await asyncio.to_thread(self._scanner)
        while True:
            spans = await asyncio.to_thread(scanner.look)
            if spans:
                names = [f"{span.name} revision {span.revision}" for span in spans]
                yield TriggerEvent({"pipeline": self.pipeline, "spans": names})  # type: ignore[no-untyped-call]
            await asyncio.sleep(self.poll_interval_s)

    def _scanner(self) -> Scanner:
        source = FolderSource(Path(self.folder), self.pattern)
        return Scanner(self.pipeline, source, Ledger.open(Home(Path(self.home))), self.settle_s, time.monotonic)
