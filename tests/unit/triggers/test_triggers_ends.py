"""Every event has an end, whatever happens to its span."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from ct.config import TriggerConfig
from ct.contracts import TriggerKind
from ct.triggers.claims import Ask
from ct.triggers.ledger import Ledger
from ct.triggers.records import Arrival, EndKind, EventOutcome, RunStatus, SkipCause, SpanState

if TYPE_CHECKING:
    from ct.home import Home

SETTINGS = TriggerConfig()


class World:
    """A ledger and everything that may happen to it, one step at a time, chosen by a seeded generator."""

    def __init__(self, home: Home, seed: int) -> None:
        self.now = datetime(2013, 1, 1, tzinfo=timezone.utc)
        self.ledger = Ledger.open(home, lambda: self.now)
        self.random = random.Random(seed)  # noqa: S311  a repeatable walk
        self.running: list[str] = []
        self.count = 0

    def step(self) -> None:
        """Something happens."""
        self.now += timedelta(seconds=self.random.choice((1, 30, 600)))
        self.random.choice((self.land, self.land, self.claim, self.claim, self.finish, self.list_source, self.note))()

    def land(self) -> None:
        """Bytes of few kinds under few names, so that revisions and duplicates are many."""
        name, sha256 = self.random.choice("abcde"), self.random.choice("123456")
        uri = f"/in/{name}"
        arrival = Arrival(
            name=name,
            source_uri=uri,
            uri=uri,
            format="csv",
            sha256=sha256,
            size_bytes=1,
            fingerprint=f"{sha256} {self.random.random()}",
            rows=self.random.choice((None, 1, 100)),
        )
        self.ledger.record_landing("p", arrival, self.random.choice(("train", "ignore")))

    def claim(self) -> None:
        """A run of any kind."""
        self.count += 1
        again = f"r{self.random.randint(1, self.count)}"
        ask = Ask(
            "p",
            f"p-{self.count}",
            self.random.choice(list(TriggerKind)),
            "p",
            self.random.choice((f"r{self.count}", again)),
            self.now,
            self.random.choice((None, 2)),
            force=self.random.random() < 0.2,
            refused_too=self.random.random() < 0.2,
            coalescing=self.random.choice((None, TriggerConfig(cooldown_s=60, min_new_rows=50))),
        )
        got = self.ledger.claim(ask)
        if got is not None:
            self.running.append(got.run_id)

    def finish(self) -> None:
        """A run ends in any way; sometimes it is reopened later."""
        if not self.running:
            return
        run_id = self.random.choice(self.running)
        run = self.ledger.run(run_id)
        assert run is not None
        status = self.random.choice((RunStatus.APPROVED, RunStatus.REFUSED, RunStatus.FAILED, RunStatus.SKIPPED))
        refused = {self.random.choice(run.window): "bad"} if status is RunStatus.SKIPPED and run.window else {}
        cause = SkipCause.SCHEMA_BREAK if status is RunStatus.SKIPPED else None
        self.ledger.finish_run(run_id, status, message="because", cause=cause, refused=refused)
        if self.random.random() < 0.2:
            self.ledger.reopen(run_id)

    def list_source(self) -> None:
        """Some spans are there no more."""
        listed = frozenset(f"/in/{name}" for name in "abcde" if self.random.random() < 0.7)
        self.ledger.note_listing("p", listed, self.random.choice(("keep", "forget")))

    def note(self) -> None:
        """Something else is seen."""
        outcomes = (EventOutcome.INCOMPLETE, EventOutcome.GONE, EventOutcome.UNREADABLE, EventOutcome.READABLE)
        uri = f"/in/{self.random.choice('abcde')}"
        self.ledger.record_event("p", "x", self.random.choice(outcomes), "seen", uri=uri)


@pytest.mark.parametrize("seed", range(6))
def test_no_event_is_unaccounted_for_whatever_happens(ledger_home: Home, seed: int) -> None:
    """A random walk over landings, runs, deletions and their ends; every few steps each event has one end, and it fits."""
    world = World(ledger_home, seed)
    for _ in range(15):
        for _ in range(4):
            world.step()
        runs = {run.run_id: run for run in world.ledger.runs("p", limit=None)}
        events, ends = world.ledger.events("p", limit=None), world.ledger.ends("p", SETTINGS, limit=None)
        assert [end.event for end in ends] == list(events)
        assert all(end.why for end in ends)
        waiting = {(record.span.name, record.span.revision) for record in world.ledger.waiting("p")}
        told = {(end.event.span, end.event.revision) for end in ends if end.end is EndKind.WAITING}
        assert told == waiting
        for end in ends:
            if end.end is EndKind.CONSUMED:
                assert end.event.span in runs[end.run_id or ""].spans


@pytest.mark.parametrize("state", list(SpanState))
def test_every_state_of_a_span_has_an_end(ledger_home: Home, state: SpanState) -> None:
    """New states must be told, too."""
    now = datetime(2013, 1, 1, tzinfo=timezone.utc)
    ledger = Ledger.open(ledger_home, lambda: now)

    def land(sha256: str) -> None:
        values = {"format": "csv", "sha256": sha256, "size_bytes": 1, "fingerprint": sha256}
        ledger.record_landing("p", Arrival(name="a", source_uri="/a", uri="/a", **values))

    land("1")
    if state in (SpanState.CLAIMED, SpanState.TRAINED, SpanState.REFUSED):
        assert ledger.claim(Ask("p", "p-1", TriggerKind.DATA, "p", "r1", now, None)) is not None
    if state is SpanState.TRAINED:
        ledger.finish_run("p-1", RunStatus.APPROVED, message="better", version=3)
    if state is SpanState.REFUSED:
        ledger.finish_run("p-1", RunStatus.SKIPPED, cause=SkipCause.UNREADABLE_SPAN, refused={"a": "no rows"})
    if state is SpanState.SUPERSEDED:
        land("2")
    end = ledger.ends("p", SETTINGS)[-1]
    assert (end.end, end.why, end.judged) == {
        SpanState.WAITING: (EndKind.WAITING, "the next run, which is due", None),
        SpanState.CLAIMED: (EndKind.CONSUMED, "p-1, which goes on", False),
        SpanState.TRAINED: (EndKind.CONSUMED, "p-1, judged: approved as version 3", True),
        SpanState.REFUSED: (EndKind.REJECTED, "no rows", None),
        SpanState.SUPERSEDED: (EndKind.SUPERSEDED, "revision 2 landed", None),
    }[state]
