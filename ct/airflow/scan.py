"""One look at a source: whole new files go into the ledger, and what must be announced comes back. Imports no Airflow."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ct.sources.folder import FolderSource, LandedFile, Settling, incomplete_reason, sha256_of
from ct.triggers.ledger import Ledger, SeenFile
from ct.triggers.records import EventOutcome, RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct.contracts import Span

INCOMPLETE_AFTER_S = 30.0
"""A file that has not changed for so long and is still not whole is written down, so that `ct status` can show it."""
ANNOUNCE_AGAIN_S = 30.0
"""An announcement that started no run is repeated: Airflow may have lost it, or the DAG was paused."""

INCOMPLETE = EventOutcome.INCOMPLETE
log = logging.getLogger(__name__)


class Scanner:
    """Watches one pipeline's folder. Not for use by two threads at once.

    Args:
        pipeline: Whose spans these are.
        source: The folder.
        ledger: Where landings are recorded.
        settle_s: Seconds that a file must keep its size and time.
        clock: Seconds; does not run backwards.
    """

    def __init__(
        self, pipeline: str, source: FolderSource, ledger: Ledger, settle_s: float, clock: Callable[[], float]
    ) -> None:
        self._pipeline = pipeline
        self._source = source
        self._ledger = ledger
        self._clock = clock
        self._settling = Settling(settle_s)
        self._dealt_with: set[LandedFile] = set()
        self._incomplete_since: dict[LandedFile, float] = {}
        self._unreadable: str | None = None
        self._incomplete = {Path(event.uri) for event in ledger.unsettled(pipeline) if event.outcome is INCOMPLETE}
        self._announce_at: float | None = None  # None before the first look: what the last watcher left is announced

    def look(self) -> tuple[Span, ...]:
        """The spans that must be announced now; empty most of the time. Blocks while it hashes a file.

        These are new and revised spans, and spans of earlier looks that no run has taken: announcing is at least once.
        """
        now_s = self._clock()
        landed = [span for file in self._settled(now_s) if (span := self._record(file, now_s)) is not None]
        due = self._announce_at is None or now_s >= self._announce_at
        if not landed and not due:
            return ()
        self._announce_at = now_s + ANNOUNCE_AGAIN_S
        unclaimed = self._ledger.unclaimed(self._pipeline)
        if not landed and (not unclaimed or self._runs()):
            return ()  # a run that goes on is followed by another look; its end does not need an event of its own
        return unclaimed

    def _settled(self, now_s: float) -> list[LandedFile]:
        """Files that nobody writes to and that have not been dealt with."""
        try:
            found = self._source.landed()
        except OSError as error:
            self._say_unreadable(f"{error.strerror or error}")
            return []
        self._say_unreadable(None if self._source.path.is_dir() else "it does not exist")
        self._dealt_with.intersection_update(found)
        self._incomplete_since = {file: since for file, since in self._incomplete_since.items() if file in found}
        for path in self._incomplete - {file.path for file in found}:
            self._incomplete.remove(path)
            self._note(path.stem, EventOutcome.GONE, f"{path.name} was incomplete and is gone", path)
        return [file for file in self._settling.settled(found, now_s) if file not in self._dealt_with]

    def _record(self, file: LandedFile, now_s: float) -> Span | None:
        """Deal with a settled file; its span when that is new or revised."""
        if self._ledger.knows(self._pipeline, str(file.path), file.size_bytes, file.mtime_ns):
            self._dealt_with.add(file)
            return None
        try:
            reason = incomplete_reason(file.path)
            if reason is not None:
                self._wait_for(file, reason, now_s)
                return None
            sha256 = sha256_of(file.path)
            after = file.path.stat()
        except OSError as error:
            self._wait_for(file, f"it cannot be read: {error.strerror or error}", now_s)
            return None
        if (after.st_size, after.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
            return None  # written to while it was hashed: it settles again
        self._dealt_with.add(file)
        self._incomplete.discard(file.path)
        seen = SeenFile(file.name, str(file.path), self._source.format, file.size_bytes, file.mtime_ns)
        landing = self._ledger.record_landing(self._pipeline, seen, sha256)
        log.info("%s: %s is %s", self._pipeline, file.path.name, landing.kind.value)
        return None if landing.kind is EventOutcome.DUPLICATE else landing.span

    def _wait_for(self, file: LandedFile, reason: str, now_s: float) -> None:
        """A settled file that is not whole: look again, and write it down when it stays so."""
        since = self._incomplete_since.setdefault(file, now_s)
        if now_s - since >= INCOMPLETE_AFTER_S:
            message = f"{file.path.name} is not picked up: {reason}"
            self._note(file.name, INCOMPLETE, message, file.path)
            self._incomplete.add(file.path)

    def _say_unreadable(self, reason: str | None) -> None:
        """Written down when it changes, not at every look."""
        if reason == self._unreadable:
            return
        self._unreadable = reason
        outcome = EventOutcome.READABLE if reason is None else EventOutcome.UNREADABLE
        message = f"{self._source.path} can be read again" if reason is None else f"{self._source.path}: {reason}"
        log.log(logging.INFO if reason is None else logging.WARNING, "%s: %s", self._pipeline, message)
        self._note("", outcome, message, self._source.path)

    def _note(self, name: str, outcome: EventOutcome, message: str, path: Path) -> None:
        self._ledger.record_event(self._pipeline, name, outcome, message, uri=path)

    def _runs(self) -> bool:
        return any(run.status is RunStatus.RUNNING for run in self._ledger.runs(self._pipeline, limit=10))
