"""What the watcher makes of a folder, with the clock in the test's hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ct.airflow.scan import ANNOUNCE_AGAIN_S, INCOMPLETE_AFTER_S, Scanner
from ct.contracts import TriggerKind
from ct.home import Home
from ct.sources.folder import FolderSource
from ct.triggers.claims import Ask
from ct.triggers.ledger import Ledger, utc_now
from ct.triggers.records import EventOutcome, RunStatus

if TYPE_CHECKING:
    from pathlib import Path

SETTLE_S = 2.0


class Watched:
    """A folder, its scanner, and a clock that only `after` moves."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "landing"
        self.folder.mkdir()
        self.ledger = Ledger.open(Home(root))
        self.now_s = 0.0
        self.scanner = self.new_scanner()

    def new_scanner(self) -> Scanner:
        """As after a restart of the triggerer."""
        return Scanner("p", FolderSource(self.folder, "*.csv"), self.ledger, SETTLE_S, lambda: self.now_s)

    def write(self, name: str, text: str = "a\n1\n") -> None:
        """Put a file there."""
        (self.folder / name).write_text(text)

    def after(self, seconds: float) -> list[str]:
        """Let time pass, look, and say what is announced."""
        self.now_s += seconds
        return [span.name for span in self.scanner.look()]

    def landed(self, name: str, text: str = "a\n1\n") -> list[str]:
        """Write a file and wait until it has settled."""
        self.write(name, text)
        return self.after(0) + self.after(SETTLE_S)

    def claim(self, airflow_run: str) -> str:
        """Claim all that waits."""
        got = self.ledger.claim(Ask("p", f"p-{airflow_run}", TriggerKind.DATA, "p", airflow_run, utc_now(), None))
        assert got is not None
        return got.run_id

    def outcomes(self) -> list[EventOutcome]:
        """All events, oldest first."""
        return [event.outcome for event in reversed(self.ledger.events("p"))]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """An empty folder that is watched."""
    return Watched(tmp_path)


def test_a_file_is_announced_once_it_has_settled(watched: Watched) -> None:
    """Not while it may still be written to, and once only."""
    watched.write("jan.csv")
    assert watched.after(0) == []
    assert watched.after(1) == []
    assert watched.after(1) == ["jan"]
    assert watched.after(1) == []


def test_a_file_that_grows_starts_settling_anew(watched: Watched) -> None:
    """A slow upload is picked up at its end."""
    watched.write("jan.csv")
    watched.after(0)
    watched.write("jan.csv", "a\n1\n2\n")
    assert watched.after(SETTLE_S) == []
    assert watched.after(SETTLE_S) == ["jan"]


def test_a_file_that_is_written_to_while_it_is_hashed_is_not_recorded(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash would be of bytes that no longer are; it settles again and is hashed again."""

    def hash_slowly(path: Path) -> str:
        monkeypatch.undo()
        watched.write(path.name, "a\n1\n2\n")
        return "stale"

    monkeypatch.setattr("ct.airflow.scan.sha256_of", hash_slowly)
    assert watched.landed("jan.csv") == []
    assert watched.outcomes() == []
    assert watched.after(0) + watched.after(SETTLE_S) == ["jan"]
    assert watched.ledger.spans("p")[0].span.sha256 != "stale"


def test_a_half_written_file_waits_and_is_written_down_when_it_stays_so(watched: Watched) -> None:
    """It is never announced; after a while `ct status` can say why; when it is whole it is announced."""
    assert watched.landed("jan.csv", "a\n1") == []
    assert watched.outcomes() == []
    assert watched.after(INCOMPLETE_AFTER_S) == []
    assert watched.after(1) == []
    assert watched.outcomes() == [EventOutcome.INCOMPLETE]
    (event,) = watched.ledger.unsettled("p")
    assert "no line end" in event.message
    assert watched.landed("jan.csv", "a\n1\n") == ["jan"]
    assert watched.ledger.unsettled("p") == ()


def test_an_incomplete_file_that_is_taken_away_waits_for_nobody(watched: Watched) -> None:
    """Also when the triggerer was restarted in between."""
    watched.landed("jan.csv", "a\n1")
    watched.after(INCOMPLETE_AFTER_S)
    watched.after(1)
    assert len(watched.ledger.unsettled("p")) == 1
    watched.scanner = watched.new_scanner()
    (watched.folder / "jan.csv").unlink()
    watched.after(1)
    assert watched.ledger.unsettled("p") == ()


def test_an_empty_file_is_announced_so_that_a_run_refuses_it(watched: Watched) -> None:
    """Waiting for it for ever would hide it."""
    assert watched.landed("jan.csv", "") == ["jan"]


def test_the_same_bytes_under_another_name_are_not_announced(watched: Watched) -> None:
    """They are an event in the ledger, written once."""
    watched.landed("jan.csv")
    watched.claim("r1")
    assert watched.landed("copy.csv") == []
    assert watched.after(10) == []
    assert watched.outcomes() == [EventOutcome.NEW, EventOutcome.DUPLICATE]


def test_changed_bytes_are_a_revision_and_announced(watched: Watched) -> None:
    """Also while a run has the earlier revision."""
    watched.landed("jan.csv")
    watched.claim("r1")
    assert watched.landed("jan.csv", "a\n2\n") == ["jan"]
    assert watched.outcomes() == [EventOutcome.NEW, EventOutcome.REVISION]


def test_a_restart_announces_what_no_run_has_taken_and_hashes_nothing_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event may have been lost with the triggerer. Known files are recognized by size and time."""
    watched.landed("jan.csv")
    monkeypatch.setattr("ct.airflow.scan.sha256_of", lambda path: pytest.fail(f"{path} was hashed again"))
    watched.scanner = watched.new_scanner()
    assert watched.after(0) == ["jan"]
    watched.claim("r1")
    watched.scanner = watched.new_scanner()
    assert watched.after(0) + watched.after(SETTLE_S) == []


def test_an_announcement_that_started_no_run_is_repeated(watched: Watched) -> None:
    """The DAG was paused, or Airflow lost the event. While a run goes on nothing is repeated."""
    watched.landed("jan.csv")
    assert watched.after(ANNOUNCE_AGAIN_S) == ["jan"]
    run_id = watched.claim("r1")
    watched.landed("feb.csv", "a\n2\n")
    assert watched.after(ANNOUNCE_AGAIN_S) == []
    watched.ledger.finish_run(run_id, RunStatus.APPROVED)
    assert watched.after(ANNOUNCE_AGAIN_S) == ["feb"]


def test_the_spans_of_a_failed_run_are_not_announced_by_themselves(watched: Watched) -> None:
    """A pipeline whose code is broken must not run for ever."""
    watched.landed("jan.csv")
    watched.ledger.finish_run(watched.claim("r1"), RunStatus.FAILED, message="bug")
    assert watched.after(ANNOUNCE_AGAIN_S) == []


def test_a_missing_folder_is_written_down_once_and_watched_on(watched: Watched) -> None:
    """Somebody unmounted it; when it is back, spans are picked up as before."""
    away = watched.folder.with_name("away")
    watched.folder.rename(away)
    for _ in range(3):
        assert watched.after(1) == []
    assert watched.outcomes() == [EventOutcome.UNREADABLE]
    away.rename(watched.folder)
    assert watched.landed("jan.csv") == ["jan"]
    assert watched.outcomes() == [EventOutcome.UNREADABLE, EventOutcome.READABLE, EventOutcome.NEW]


def test_the_trigger_yields_an_event_for_a_landed_span(watched: Watched) -> None:
    """What Airflow stores of the trigger makes one that works; the event names the span."""
    from airflow.triggers.base import BaseEventTrigger  # noqa: PLC0415

    from ct.airflow.watcher import SpanTrigger  # noqa: PLC0415

    watched.write("jan.csv")
    trigger = SpanTrigger(
        home=str(watched.folder.parent),
        pipeline="p",
        folder=str(watched.folder),
        pattern="*.csv",
        poll_interval_s=0.01,
        settle_s=0.01,
    )
    path, values = trigger.serialize()
    assert path == f"{SpanTrigger.__module__}.{SpanTrigger.__name__}"
    again = SpanTrigger(**values)
    assert isinstance(again, BaseEventTrigger)

    async def first() -> object:
        return (await asyncio.wait_for(anext(again.run()), 30)).payload

    assert asyncio.run(first()) == {"pipeline": "p", "spans": ["jan revision 1"]}
