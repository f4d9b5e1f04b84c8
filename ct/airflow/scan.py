"""One look at a source: what is new goes into the ledger. Imports no Airflow."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct.errors import SourceChangedError, SourceError
from ct.sources.arrival import fetch, incoming
from ct.triggers.records import Arrival, EventOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ct.contracts import Span
    from ct.source_config import SourceBlock
    from ct.sources.contract import Look, Newest, Offered, Source, Unready
    from ct.triggers.ledger import Ledger

INCOMPLETE_AFTER_S = 30.0
"""What has not changed for so long and is still not whole is written down, so that `ct status` can show it."""
MISSING_AFTER_S = 10.0
"""A span that is listed no more for so long was deleted; one that was renamed has settled again by then."""

log = logging.getLogger(__name__)
Key = tuple[str, str]
"""Address and fingerprint."""


@dataclass(frozen=True)
class Seen:
    """What one look found."""

    landed: tuple[Span, ...] = ()
    """New and revised spans."""
    listed: int = 0
    """Spans that the source has, known ones and such that are not whole too."""
    left: int = 0
    """Spans that were not fetched, because the time was over; the next look does."""
    ready_in_s: float | None = None
    """Seconds until the next of those that settle is whole; None when none does."""
    problem: str | None = None
    """Why the source could not be read."""

    @property
    def text(self) -> str:
        """For a log."""
        if self.problem is not None:
            return f"the source cannot be read: {self.problem}"
        new = ", ".join(f"{span.name} revision {span.revision}" for span in self.landed) or "none"
        left = f"; {self.left} more are left for the next look" if self.left else ""
        return f"{self.listed} spans in the source, new: {new}{left}"


class _NotRecordedError(Exception):
    """A span is not in the ledger yet."""


class Scanner:
    """Looks at one pipeline's source. Not for use by two threads at once; two scanners of one source may look side by side.

    Killed between any two steps it loses nothing: the source goes on offering what the ledger does not know.

    Args:
        pipeline: Whose spans these are.
        source: Where they come from.
        ledger: Where landings are recorded.
        policy: What becomes of late and deleted spans.
        fetched: The folder for copies.
        incomplete_after_s: Seconds after which what is not whole is written down.
        clock: Seconds; does not run backwards.
    """

    def __init__(
        self,
        pipeline: str,
        source: Source,
        ledger: Ledger,
        policy: SourceBlock,
        fetched: Path,
        *,
        incomplete_after_s: float = INCOMPLETE_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pipeline = pipeline
        self._source = source
        self._ledger = ledger
        self._policy = policy
        self._fetched = fetched
        self._incomplete_after_s = incomplete_after_s
        self._clock = clock
        self._known: frozenset[Key] = frozenset()
        self._listed_at: dict[str, float] = {}
        self._noted: frozenset[str] | None = None
        self._copies = False
        self._position = 0
        self._waiting_since: dict[Key, float] = {}
        open_events = ledger.unsettled(pipeline)
        self._incomplete = {event.uri: event.name for event in open_events if event.outcome is EventOutcome.INCOMPLETE}
        self._unreadable = {event.uri for event in open_events if event.outcome is EventOutcome.UNREADABLE}

    def look(self, until_s: float | None = None) -> Seen:
        """Fetch and record what is new. Blocks while it does.

        Args:
            until_s: of the clock; no further span is fetched from then on.
        """
        self._position = self._ledger.position(self._pipeline)
        try:
            look = self._source.look(self._newest())
        except SourceError as error:
            return self._unreadable_now(error.message)
        self._say_readable()
        self._recognize(_items(look))
        new = [offered for offered in look.offered if _key(offered) not in self._known]
        there = {_key(item) for item in _items(look)}
        self._waiting_since = {key: since for key, since in self._waiting_since.items() if key in there}
        for unready in look.unready:
            if unready.ready_in_s is None and _key(unready) not in self._known:
                self._wait_for(unready, unready.reason)
        try:
            landed, left = self._record_all(new, until_s) if new else ((), 0)
        except SourceError as error:  # no room for copies, before anything was fetched
            return self._unreadable_now(error.message)
        self._note_listing(look, {offered.uri for offered in new})
        settling = [
            unready.ready_in_s
            for unready in look.unready
            if unready.ready_in_s is not None and _key(unready) not in self._known
        ]
        listed = len(look.offered) + len(look.unready)
        return Seen(landed, listed, left, min(settling, default=None))

    def _newest(self) -> Newest | None:
        """Where the source goes on; one that lists everything at each look need not be told."""
        return None if self._source.keeps else self._ledger.newest(self._pipeline, self._source.address)

    def _recognize(self, found: Iterable[Offered | Unready]) -> None:
        """Ask the ledger, in one question, about what was not there or not so at the last look."""
        keys = {_key(item) for item in found}
        asked = sorted(keys - self._known)
        self._known = (self._known & keys) | self._ledger.known(self._pipeline, asked, self._policy.late)

    def _record_all(self, new: list[Offered], until_s: float | None) -> tuple[tuple[Span, ...], int]:
        """The new and revised spans, and how many were left."""
        landed: list[Span] = []
        with incoming(self._fetched) as folder:
            for position, offered in enumerate(new):
                if until_s is not None and self._clock() >= until_s:
                    return tuple(landed), len(new) - position
                try:
                    span = self._record(offered, folder)
                except _NotRecordedError:
                    if self._source.keeps:
                        continue
                    # It lists from the newest recorded span on: with a later one recorded, this one would not come again.
                    return tuple(landed), len(new) - position
                if span is not None:
                    landed.append(span)
        return tuple(landed), 0

    def _record(self, offered: Offered, folder: Path) -> Span | None:
        """Fetch a span and write it down; the span when it is new or revised.

        Raises:
            _NotRecordedError: it could not be fetched now.
        """
        try:
            fetched = fetch(self._source, offered, folder)
            arrival = Arrival(
                name=offered.name,
                source_uri=offered.uri,
                uri=str(fetched.path),
                format=offered.format,
                sha256=fetched.sha256,
                size_bytes=fetched.size_bytes,
                fingerprint=offered.fingerprint,
                rows=fetched.rows,
                rows_estimated=fetched.rows_estimated,
                looked_after=self._position,
            )
            landing = self._ledger.record_landing(self._pipeline, arrival, self._policy.late)
        except SourceChangedError as error:
            raise _NotRecordedError from error  # the next look sees what it has become
        except SourceError as error:
            self._wait_for(offered, error.message)
            raise _NotRecordedError from error
        self._known |= {_key(offered)}
        self._incomplete.pop(offered.uri, None)
        self._copies |= landing.kind is EventOutcome.DUPLICATE
        log.info("%s: %s is %s", self._pipeline, offered.uri, landing.kind.value)
        return landing.span if landing.kind in (EventOutcome.NEW, EventOutcome.REVISION) else None

    def _wait_for(self, item: Offered | Unready, reason: str) -> None:
        """What is not whole: look again, and write it down when it stays so."""
        now_s = self._clock()
        since = self._waiting_since.setdefault(_key(item), now_s)
        if now_s - since >= self._incomplete_after_s:
            message = f"{item.name} is not picked up: {reason}"
            self._note(item.name, EventOutcome.INCOMPLETE, message, item.uri)
            self._incomplete[item.uri] = item.name

    def _note_listing(self, look: Look, new: set[str]) -> None:
        """Write down what is there no more, or again; nothing when only new spans came."""
        listed = frozenset(item.uri for item in _items(look))
        for uri in self._incomplete.keys() - listed:
            name = self._incomplete.pop(uri)
            self._note(name, EventOutcome.GONE, f"{name} was incomplete and is gone", uri)
        if not self._source.keeps:
            return
        now_s = self._clock()
        self._listed_at.update(dict.fromkeys(listed, now_s))
        self._listed_at = {uri: at for uri, at in self._listed_at.items() if now_s - at < MISSING_AFTER_S}
        there, before = frozenset(self._listed_at), self._noted
        if before is None or before - there or there - before - new or self._copies:
            self._ledger.note_listing(self._pipeline, there, self._policy.deleted)
        self._noted, self._copies = there, False

    def _unreadable_now(self, message: str) -> Seen:
        """Written down when it changes, not at every look."""
        if not self._unreadable:
            log.warning("%s: %s", self._pipeline, message)
        self._unreadable.add(note_unreadable(self._ledger, self._pipeline, message))
        return Seen(problem=message)

    def _say_readable(self) -> None:
        for uri in self._unreadable:
            self._note("", EventOutcome.READABLE, "the source can be read again", uri)
        self._unreadable.clear()

    def _note(self, name: str, outcome: EventOutcome, message: str, uri: str) -> None:
        self._ledger.record_event(self._pipeline, name, outcome, message, uri=uri)


def note_unreadable(ledger: Ledger, pipeline: str, message: str) -> str:
    """Write down that a source cannot be read; the address of the event."""
    uri = f"x-ct://sources/{pipeline}"
    ledger.record_event(pipeline, "", EventOutcome.UNREADABLE, message, uri=uri)
    return uri


def _items(look: Look) -> list[Offered | Unready]:
    return [*look.offered, *look.unready]


def _key(item: Offered | Unready) -> Key:
    return item.uri, item.fingerprint
