"""What the watcher makes of a folder, with the clock in the test's hand."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pkgutil
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from ct.airflow.announce import ANNOUNCE_AGAIN_S, Announcer
from ct.airflow.scan import INCOMPLETE_AFTER_S, MISSING_AFTER_S, Scanner
from ct.config import TriggerConfig
from ct.contracts import TriggerKind
from ct.errors import SourceError
from ct.home import Home
from ct.source_config import FolderSourceConfig
from ct.sources.contract import Look, Newest, Offered
from ct.sources.folder import FolderSource
from ct.triggers import landings
from ct.triggers.claims import Ask
from ct.triggers.ledger import Ledger, utc_now
from ct.triggers.records import Arrival, EventOutcome, RunStatus

SETTLE_S = 2.0


class Watched:
    """A folder, its scanner, and a clock that only `after` moves."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "landing"
        self.folder.mkdir()
        self.ledger = Ledger.open(Home(root))
        self.now_s = 0.0
        self.restart()

    def restart(self, **trigger: float) -> None:
        """As after a restart of the triggerer."""
        source = FolderSource(self.folder, "*.csv", SETTLE_S, self.clock)
        policy, fetched = FolderSourceConfig(), self.folder.with_name("fetched")
        self.scanner = Scanner("p", source, self.ledger, policy, fetched, clock=self.clock)
        self.announcer = Announcer("p", self.ledger, TriggerConfig.model_validate(trigger), self.clock)

    def clock(self) -> float:
        """Seconds."""
        return self.now_s

    def write(self, name: str, text: str = "a\n1\n") -> None:
        """Put a file there."""
        (self.folder / name).write_text(text)

    def after(self, seconds: float) -> list[str]:
        """Let time pass, look, and say what is announced."""
        self.now_s += seconds
        self.scanner.look()
        return [span.name for span in self.announcer.due()]

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

    def hash_slowly(path: Path) -> tuple[str, int, int]:
        monkeypatch.undo()
        watched.write(path.name, "a\n1\n2\n")
        return "stale", 4, 2

    monkeypatch.setattr("ct.sources.arrival._read", hash_slowly)
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
    watched.restart()
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
    monkeypatch.setattr("ct.sources.arrival._read", lambda path: pytest.fail(f"{path} was hashed again"))
    watched.restart()
    assert watched.after(0) == ["jan"]
    watched.claim("r1")
    watched.restart()
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


def test_a_burst_is_announced_once_until_a_run_has_taken_it(watched: Watched) -> None:
    """500 landings in 60 s: the run that is asked for takes all of them, so one event is enough."""
    watched.restart(min_new_rows=500, max_wait_s=3600)
    announced: list[str] = []
    for second in range(60):
        for number in range(second * 500 // 60, (second + 1) * 500 // 60):
            watched.write(f"{number:03}.csv", f"a\n{number}\n")
        announced += watched.after(1)
    assert announced == []
    announced = watched.after(SETTLE_S)
    assert len(announced) == 500
    assert watched.after(1) == []
    watched.claim("r1")
    assert [run.spans for run in watched.ledger.runs("p")] == [tuple(f"{number:03}" for number in range(500))]


def test_landings_of_an_announced_burst_need_no_event_of_their_own(watched: Watched) -> None:
    """The claim that is still to come takes them too."""
    watched.landed("jan.csv")
    assert watched.landed("feb.csv", "a\n2\n") == []
    watched.claim("r1")
    assert {record.state.value for record in watched.ledger.spans("p")} == {"claimed"}


def test_a_landing_during_a_run_is_announced_once_for_the_next(watched: Watched) -> None:
    """Airflow queues that run; further landings join it."""
    watched.landed("jan.csv")
    watched.claim("r1")
    assert watched.landed("feb.csv", "a\n2\n") == ["feb"]
    assert watched.landed("mar.csv", "a\n3\n") == []
    assert watched.after(ANNOUNCE_AGAIN_S) == []


def test_a_deleted_span_is_written_down_and_so_is_its_return(watched: Watched) -> None:
    """A rename is neither: its bytes are there."""
    watched.landed("jan.csv")
    watched.claim("r1")
    (watched.folder / "jan.csv").rename(watched.folder / "january.csv")
    watched.after(0)
    watched.after(SETTLE_S)
    assert watched.outcomes() == [EventOutcome.NEW, EventOutcome.DUPLICATE]
    (watched.folder / "january.csv").rename(watched.folder.with_name("away"))
    watched.after(0)
    assert len(watched.outcomes()) == 2
    watched.after(MISSING_AFTER_S)
    (watched.folder.with_name("away")).rename(watched.folder / "january.csv")
    watched.after(0)
    assert watched.outcomes()[2:] == [EventOutcome.DELETED, EventOutcome.RETURNED]


STEPS = (
    ("ct.sources.folder.FolderSource.look", "look"),
    ("ct.sources.folder.FolderSource.fetch", "fetch"),
    ("ct.sources.arrival._read", "hash"),
    ("ct.sources.arrival._count_rows", "count"),
    ("ct.triggers.landings._note_landing", "record"),
    ("ct.triggers.ledger.Ledger.note_listing", "listing"),
    ("ct.triggers.ledger.Ledger.decide", "announce"),
    ("ct.triggers.claims.run_row", "claim"),
    ("ct.triggers.claims.settle", "finish"),
)


@pytest.mark.parametrize("step", [path for path, _ in STEPS], ids=[name for _, name in STEPS])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whatever_is_killed_at_any_step_one_run_trains_on_the_span(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, step: str, *, after: bool
) -> None:
    """A process ends before or after a step; new processes look, announce, claim and finish: nothing lost, nothing twice."""
    watched.write("jan.csv")
    watched.after(0)
    watched.now_s += SETTLE_S
    module, _, name = step.rpartition(".")
    owner = pkgutil.resolve_name(module)
    real = getattr(owner, name)

    def killed(*arguments: object, **more: object) -> None:
        if after:
            real(*arguments, **more)
        raise SystemExit

    def live() -> None:
        if watched.after(0):
            watched.ledger.finish_run(watched.claim("r1"), RunStatus.APPROVED)

    with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(owner, name, killed)
        live()
    for _ in range(3):
        watched.restart()
        watched.after(0)
        watched.now_s += max(SETTLE_S, ANNOUNCE_AGAIN_S)
        live()
        for run in watched.ledger.runs("p"):
            if run.status is RunStatus.RUNNING:
                assert watched.claim("r1") == run.run_id
                watched.ledger.finish_run(run.run_id, RunStatus.APPROVED)
    assert [(run.spans, run.status) for run in watched.ledger.runs("p")] == [(("jan",), RunStatus.APPROVED)]
    assert [record.state.value for record in watched.ledger.spans("p")] == ["trained"]
    assert watched.outcomes() == [EventOutcome.NEW]


def test_one_landing_replayed_a_hundred_times_is_trained_once(watched: Watched) -> None:
    """Touched, copied, rewritten with the same bytes, looked at by new processes: one span, one run."""
    watched.restart()
    for number in range(100):
        watched.write("jan.csv" if number % 2 else f"copy-{number}.csv")
        os.utime(watched.folder / ("jan.csv" if number % 2 else f"copy-{number}.csv"), ns=(number, number))
        if number % 10 == 0:
            watched.restart()
        if watched.after(0) + watched.after(SETTLE_S):
            watched.ledger.finish_run(watched.claim(f"r{number}"), RunStatus.APPROVED)
    assert [run.spans for run in watched.ledger.runs("p")] == [("copy-0",)]
    assert watched.outcomes() == [EventOutcome.NEW] + [EventOutcome.DUPLICATE] * 99


def test_a_look_at_a_thousand_known_files_is_cheap(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three short questions to the ledger in the long run, one more after a restart; none a file."""
    for number in range(1000):
        watched.write(f"{number:04}.csv", f"a\n{number}\n")
    with watched.ledger._database.writing("p") as connection:  # one transaction, so that the test is not one of commits
        for item in FolderSource(watched.folder, "*.csv").look(None).offered:
            arrival = Arrival(
                name=item.name,
                source_uri=item.uri,
                uri=item.uri,
                format="csv",
                sha256=item.name,
                size_bytes=item.size_bytes or 0,
                fingerprint=item.fingerprint,
            )
            landings.record(connection, "p", arrival, "train", utc_now())
    watched.claim("r1")
    watched.after(0)
    watched.after(SETTLE_S)
    queries: list[str] = []
    sa.event.listen(watched.ledger._database._engine, "before_cursor_execute", lambda *seen: queries.append(seen[2]))
    began = time.process_time()
    for _ in range(5):
        assert watched.after(1) == []
    seconds = (time.process_time() - began) / 5
    assert len([query for query in queries if query.startswith("SELECT")]) == 2 * 5
    assert seconds < 0.5, f"{seconds:.3f} s a look"
    queries.clear()
    watched.restart()
    watched.after(0)
    watched.after(SETTLE_S)
    assert len([query for query in queries if query.startswith("SELECT")]) < 12


class Bucket:
    """A source whose spans are no local files."""

    keeps = False

    def __init__(self, rows: dict[str, str]) -> None:
        self.rows = rows
        self.fails: SourceError | None = None

    address = "x://bucket/"

    def look(self, since: Newest | None) -> Look:
        """Everything there is."""
        if self.fails:
            raise self.fails
        offered = [Offered(name, f"x://bucket/{name}", "csv", str(hash(text))) for name, text in self.rows.items()]
        return Look(sorted(offered, key=lambda item: item.name))

    def fetch(self, offered: Offered, folder: Path) -> Path:
        """Write a copy."""
        path = folder / "part-0.csv"
        path.write_text(self.rows[offered.name])
        return path


def test_a_fetched_copy_is_kept_under_its_hash_and_leaves_nothing_else(tmp_path: Path) -> None:
    """A run reads what was hashed, also when the source moves on; a fetch that was killed is cleaned up by the next."""
    ledger, fetched = Ledger.open(Home(tmp_path)), tmp_path / "fetched" / "p"
    (fetched / ".incoming-killed").mkdir(parents=True)
    bucket = Bucket({"jan": "a\n1\n2\n"})
    scanner = Scanner("p", bucket, ledger, FolderSourceConfig(), fetched)
    (span,) = scanner.look().landed
    digest = hashlib.sha256(b"a\n1\n2\n").hexdigest()
    assert (span.uri, span.sha256) == (str(fetched / f"{digest}.csv"), digest)
    assert [path.name for path in fetched.iterdir()] == [f"{digest}.csv"]
    (record,) = ledger.spans("p")
    assert (record.source_uri, record.rows, record.rows_estimated) == ("x://bucket/jan", 2, True)
    assert scanner.look().landed == ()


def test_no_span_is_fetched_once_the_time_is_over(tmp_path: Path) -> None:
    """A claim looks in bounded time and says what is left; the next look takes it."""
    bucket = Bucket({name: f"a\n{name}\n" for name in ("jan", "feb")})
    now = iter(range(100))
    policy, fetched = FolderSourceConfig(), tmp_path / "fetched"
    scanner = Scanner("p", bucket, Ledger.open(Home(tmp_path)), policy, fetched, clock=lambda: float(next(now)))
    seen = scanner.look(until_s=1.0)
    assert (len(seen.landed), seen.left) == (1, 1)
    assert "1 more are left" in seen.text
    assert len(scanner.look().landed) == 1


def test_a_source_that_is_away_is_said_once_and_its_return_too(tmp_path: Path) -> None:
    """By its own message."""
    bucket, ledger = Bucket({}), Ledger.open(Home(tmp_path))
    scanner = Scanner("p", bucket, ledger, FolderSourceConfig(), tmp_path / "fetched")
    bucket.fails = SourceError("x://bucket: no route.")
    assert scanner.look().problem == "x://bucket: no route."
    assert "no route" in scanner.look().text
    bucket.fails = None
    scanner.look()
    messages = [event.message for event in reversed(ledger.events("p"))]
    assert messages == ["x://bucket: no route.", "the source can be read again"]


def test_a_slow_fetch_does_not_overwrite_what_a_later_look_has_recorded(tmp_path: Path) -> None:
    """The watcher fetches rows for minutes while a run's look finds newer ones: the older do not become the revision."""
    ledger = Ledger.open(Home(tmp_path))
    bucket = Bucket({"jan": "a\n1\n"})
    slow = Scanner("p", bucket, ledger, FolderSourceConfig(), tmp_path / "slow")
    other = Scanner("p", bucket, ledger, FolderSourceConfig(), tmp_path / "other")
    fetch = bucket.fetch

    def fetch_slowly(offered: Offered, folder: Path) -> Path:
        path = fetch(offered, folder)
        bucket.fetch = fetch  # type: ignore[method-assign]
        bucket.rows["jan"] = "a\n1\n2\n"
        assert other.look().landed
        return path

    bucket.fetch = fetch_slowly  # type: ignore[method-assign]
    assert slow.look().landed == ()
    assert slow.look().landed == ()
    assert [(span.span.revision, span.rows) for span in ledger.spans("p")] == [(1, 2)]


class Log:
    """A source of numbered messages; a span is those from where the newest one ended."""

    keeps = False

    def __init__(self, address: str, messages: str) -> None:
        self.address = address
        self.messages = messages

    def look(self, since: Newest | None) -> Look:
        """Two messages, once they are there."""
        begin = int(since.uri.rpartition("-")[2]) if since else 0
        end = begin + 2
        if len(self.messages) < end:
            return Look(())
        return Look([Offered(f"log-{end:03}", f"{self.address}{begin}-{end}", "csv", f"{begin}-{end}")])

    def fetch(self, offered: Offered, folder: Path) -> Path:
        """A line a message."""
        begin, end = map(int, offered.fingerprint.split("-"))
        path = folder / "part-0.csv"
        path.write_text("a\n" + "".join(f"{message}\n" for message in self.messages[begin:end]))
        return path


def test_a_log_goes_on_where_its_newest_span_ended(tmp_path: Path) -> None:
    """Also after a stretch that repeats another, after another source had the pipeline, and in a new process."""
    ledger, fetched = Ledger.open(Home(tmp_path)), tmp_path / "fetched"
    log, other = Log("log://a#", "1212345"), Log("log://b#", "98")
    landed = [Scanner("p", log, ledger, FolderSourceConfig(), fetched).look().landed for _ in range(2)]
    landed.append(Scanner("p", other, ledger, FolderSourceConfig(), fetched).look().landed)
    landed += [Scanner("p", log, ledger, FolderSourceConfig(), fetched).look().landed for _ in range(2)]
    assert [[Path(span.uri).read_text() for span in spans] for spans in landed] == [
        ["a\n1\n2\n"],
        [],  # the same bytes again, a duplicate
        ["a\n9\n8\n"],
        ["a\n3\n4\n"],
        [],  # one message more is no span yet
    ]
