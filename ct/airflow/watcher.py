"""The trigger that Airflow's triggerer runs: it waits for spans to land in a pipeline's source."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from ct.airflow.announce import Announcer
from ct.airflow.looking import connection_of_async, scanner_of
from ct.airflow.scan import note_unreadable
from ct.config import PipelineConfig
from ct.deploy import deployed_spec
from ct.errors import CTError, SourceError
from ct.home import Home
from ct.triggers.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ct.airflow.scan import Scanner
    from ct.contracts import Span

T = TypeVar("T")
AFTER_TROUBLE_S = 5.0
"""Least pause after a look that failed."""
FOLDER_S, FILE_S, SOURCE_S = 0.25, 1e-4, 1.0
"""Pauses where pipeline.yaml names none: of a folder, of one with many files for each of them, of another source."""


class SpanTrigger(BaseEventTrigger):
    """Yields an event for spans that are due, once they are in the ledger.

    Airflow keeps a watcher by its arguments and runs it for as long as a DAG names it. So it is told which pipeline to watch
    and nothing else, and follows what is deployed: a redeploy changes the watch within one look.

    Events are at least once. After a restart, spans that no run has taken are announced again; a run that finds nothing
    to claim is skipped.

    Args:
        home: CT_HOME.
        pipeline: Whose source is watched.
        earlier: What an earlier ct stored with its watchers; Airflow starts those until it has read the DAG anew.
    """

    def __init__(self, *, home: str, pipeline: str, **earlier: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        del earlier
        self.home = home
        self.pipeline = pipeline
        self._spec_hash: str | None = None
        self._ledger: Ledger
        self._announcer: Announcer
        self._scanner: Scanner | None = None
        self._listed = 0
        self._thread: ThreadPoolExecutor

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow stores: the class and its arguments."""
        return "ct.airflow.watcher.SpanTrigger", {"home": self.home, "pipeline": self.pipeline}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the source again and again, off the event loop, in a thread of its own: others' fetches do not hold it up."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ct-watch")
        pause_s = AFTER_TROUBLE_S
        try:
            while True:
                spans: tuple[Span, ...] = ()
                try:
                    spec = await self._off_loop(deployed_spec, Home(Path(self.home)), self.pipeline)
                    config = PipelineConfig.model_validate(spec.config)
                    if config.trigger.on_data:
                        spans = await self._look(spec.spec_hash, config)
                    pause_s = pause_between_looks(config, self._listed)
                except (CTError, ValueError, OSError) as error:  # a spec that is being replaced, a ledger that restarts
                    self.log.warning("%s is not looked at now: %s", self.pipeline, error)
                    pause_s = max(pause_s, AFTER_TROUBLE_S)
                if spans:
                    names = [f"{span.name} revision {span.revision}" for span in spans]
                    yield TriggerEvent({"pipeline": self.pipeline, "spans": names})  # type: ignore[no-untyped-call]
                await asyncio.sleep(pause_s)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _look(self, spec_hash: str, config: PipelineConfig) -> tuple[Span, ...]:
        """The spans to announce now. What waits is announced also when the source cannot be read."""
        if self._spec_hash != spec_hash:
            self._ledger = await self._off_loop(Ledger.open, Home(Path(self.home)))
            self._announcer = Announcer(self.pipeline, self._ledger, config.trigger)
            self._scanner, self._spec_hash = None, spec_hash
        try:
            if self._scanner is None:
                connection = await connection_of_async(config)
                home = Home(Path(self.home))
                self._scanner = await self._off_loop(scanner_of, config, home, self._ledger, connection)
        except SourceError as error:
            self.log.warning("%s: %s", self.pipeline, error)
            await self._off_loop(note_unreadable, self._ledger, self.pipeline, error.message)
        else:
            seen = await self._off_loop(self._scanner.look)
            self._listed = seen.listed
            if seen.problem is not None:
                self._scanner = None  # the next look reads the connection anew: it may have been corrected
        return await self._off_loop(self._announcer.due)

    async def _off_loop(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def pause_between_looks(config: PipelineConfig, listed: int) -> float:
    """Seconds from the end of a look at a source to the next, when the last one listed so many spans."""
    if config.trigger.poll_interval_s is not None:
        return config.trigger.poll_interval_s
    return max(FOLDER_S, FILE_S * listed) if config.source.kind == "folder" else SOURCE_S
