"""The ledger: what a landing becomes, who may claim it, and where spans end."""

from __future__ import annotations

import multiprocessing
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from ct.contracts import TriggerKind
from ct.errors import CTError
from ct.home import Home
from ct.triggers import schema
from ct.triggers.claims import Ask
from ct.triggers.ledger import Ledger, SeenFile
from ct.triggers.records import EventOutcome, RunStatus, SpanState

if TYPE_CHECKING:
    from pathlib import Path

    from ct.triggers.records import Claim

START = datetime(2013, 1, 1, tzinfo=timezone.utc)


class Clock:
    """A minute later at every look."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """An empty ledger."""
    return Ledger.open(Home(tmp_path), Clock())


def land(ledger: Ledger, name: str, sha256: str | None = None, *, mtime_ns: int = 1) -> EventOutcome:
    """Record a landing."""
    file = SeenFile(name=name, uri=f"/in/{name}.csv", format="csv", size_bytes=3, mtime_ns=mtime_ns)
    return ledger.record_landing("p", file, sha256 or f"hash of {name}").kind


def ask(airflow_run: str, **more: object) -> Ask:
    """A run's question."""
    values: dict[str, object] = {
        "pipeline": "p",
        "run_id": f"p-{airflow_run}",
        "trigger": TriggerKind.DATA,
        "airflow_dag_id": "p",
        "airflow_run_id": airflow_run,
        "asked_at": START,
        "max_spans": None,
    }
    return Ask(**{**values, **more})  # type: ignore[arg-type]


def claim(ledger: Ledger, airflow_run: str, **more: object) -> Claim:
    """A claim that must give something."""
    got = ledger.claim(ask(airflow_run, **more))
    assert got is not None
    return got


def states(ledger: Ledger) -> dict[str, str]:
    """Span -> state."""
    return {record.span.name: record.state.value for record in ledger.spans("p")}


def train(ledger: Ledger, airflow_run: str) -> None:
    """A whole run, judged."""
    ledger.finish_run(claim(ledger, airflow_run).run_id, RunStatus.APPROVED, message="better", version=1)


def test_other_bytes_under_a_known_name_are_its_next_revision(ledger: Ledger) -> None:
    """The newer revision waits, the older is superseded, and only the newer is in the window."""
    assert land(ledger, "jan", "a") is EventOutcome.NEW
    assert land(ledger, "jan", "b") is EventOutcome.REVISION
    window = claim(ledger, "r1").window
    assert [(span.name, span.revision, span.sha256) for span in window] == [("jan", 2, "b")]


@pytest.mark.parametrize("name", ["jan", "copy"])
def test_the_same_bytes_are_a_duplicate_under_any_name(ledger: Ledger, name: str) -> None:
    """They are written down as an event that names the span, and never wait for a run."""
    land(ledger, "jan", "a")
    train(ledger, "r1")
    assert land(ledger, name, "a", mtime_ns=2) is EventOutcome.DUPLICATE
    assert ledger.claim(ask("r2")) is None
    assert ledger.events("p")[0].message == "the same bytes as jan, revision 1"


def test_bytes_that_return_to_an_older_revision_are_a_revision(ledger: Ledger) -> None:
    """What the file holds now counts: bytes a, then b, then a again are revision 3."""
    for sha256 in ("a", "b", "a"):
        land(ledger, "jan", sha256)
    assert claim(ledger, "r1").window[0].revision == 3


def test_a_known_file_need_not_be_hashed_again(ledger: Ledger) -> None:
    """The ledger knows a file by address, size and time, also a duplicate; any change makes it unknown."""
    land(ledger, "jan", "a", mtime_ns=1)
    land(ledger, "copy", "a", mtime_ns=5)
    assert ledger.knows("p", "/in/jan.csv", 3, 1)
    assert ledger.knows("p", "/in/copy.csv", 3, 5)
    assert not ledger.knows("p", "/in/jan.csv", 3, 2)
    assert not ledger.knows("q", "/in/jan.csv", 3, 1)


def test_a_run_claims_all_waiting_spans_and_trains_on_the_older_ones_too(ledger: Ledger) -> None:
    """A burst of landings is one run; its window is ordered by name, whatever landed first."""
    land(ledger, "2013-02")
    train(ledger, "r1")
    land(ledger, "2013-03")
    land(ledger, "2013-01")
    got = claim(ledger, "r2")
    assert [span.name for span in got.window] == ["2013-01", "2013-02", "2013-03"]
    assert got.new_spans == ("2013-01", "2013-03")
    assert states(ledger) == {"2013-01": "claimed", "2013-02": "trained", "2013-03": "claimed"}


def test_requested_at_is_when_the_newest_claimed_span_was_seen(ledger: Ledger) -> None:
    """Trigger-to-serving times are counted from there."""
    land(ledger, "jan")
    assert claim(ledger, "r1").requested_at == ledger.spans("p")[0].span.seen_at


def test_claiming_again_for_the_same_airflow_run_gives_the_same_claim(ledger: Ledger) -> None:
    """A retry of the task keeps its spans and its run id; a span that landed since waits for the next run."""
    land(ledger, "jan")
    first = claim(ledger, "r1")
    land(ledger, "feb")
    again = claim(ledger, "r1", run_id="p-another")
    assert again == first.model_copy(update={"again": True})
    assert states(ledger)["feb"] == "waiting"


def test_nothing_to_claim_is_a_skipped_run_with_the_reason(ledger: Ledger) -> None:
    """`ct runs` shows why a trigger did nothing."""
    assert ledger.claim(ask("r1")) is None
    land(ledger, "jan")
    train(ledger, "r2")
    assert ledger.claim(ask("r3")) is None
    assert [(run.status, run.message) for run in ledger.runs("p")[::2]] == [
        (RunStatus.SKIPPED, "no span is waiting: nothing has landed since the last run"),
        (RunStatus.SKIPPED, "no span has landed yet"),
    ]


def test_a_skipped_run_that_is_cleared_may_claim(ledger: Ledger) -> None:
    """Nothing was decided for it, so it takes what waits now, as the same run."""
    assert ledger.claim(ask("r1")) is None
    land(ledger, "jan")
    got = claim(ledger, "r1", run_id="p-another")
    assert got.run_id == "p-r1"
    assert [run.status for run in ledger.runs("p")] == [RunStatus.RUNNING]


def test_force_runs_on_the_window_when_nothing_waits(ledger: Ledger) -> None:
    """The window is what was trained on; no span is new."""
    land(ledger, "jan")
    train(ledger, "r1")
    got = claim(ledger, "r2", force=True)
    assert [span.name for span in got.window] == ["jan"]
    assert got.new_spans == ()


def test_force_without_any_span_is_skipped(ledger: Ledger) -> None:
    """There is nothing to train on."""
    assert ledger.claim(ask("r1", force=True)) is None


def test_the_window_keeps_the_newest_spans(ledger: Ledger) -> None:
    """Spans that wait but are older than the window reaches are superseded, with the reason, and not lost silently."""
    for name in ("2013-02", "2013-03"):
        land(ledger, name)
    train(ledger, "r1")
    land(ledger, "2013-01")
    assert ledger.claim(ask("r2", max_spans=2)) is None
    late = ledger.spans("p")[0]
    assert (late.state, late.reason) == (SpanState.SUPERSEDED, "older than the window of 2 spans reaches")


def test_a_backfill_leaves_later_spans_alone(ledger: Ledger) -> None:
    """It sees the spans that had been seen by its date."""
    land(ledger, "jan")
    until = ledger.spans("p")[0].span.seen_at
    land(ledger, "feb")
    got = claim(ledger, "b1", seen_until=until, force=True)
    assert [span.name for span in got.window] == ["jan"]
    assert states(ledger)["feb"] == "waiting"


@pytest.mark.parametrize("status", [RunStatus.APPROVED, RunStatus.REFUSED])
def test_spans_of_a_judged_run_are_trained(ledger: Ledger, status: RunStatus) -> None:
    """Whatever the verdict: the data was seen and judged, and is in later windows. Saying so twice changes nothing."""
    land(ledger, "jan")
    run_id = claim(ledger, "r1").run_id
    for _ in range(2):
        ledger.finish_run(run_id, status, message="because")
    run = ledger.run(run_id)
    assert run is not None
    assert (run.status, run.message, run.spans) == (status, "because", ("jan",))
    assert states(ledger) == {"jan": "trained"}


def test_spans_of_a_failed_run_wait_again_with_the_reason(ledger: Ledger) -> None:
    """The next run takes them. They are not announced by themselves: a broken pipeline must not run for ever."""
    land(ledger, "jan")
    ledger.finish_run(claim(ledger, "r1").run_id, RunStatus.FAILED, message="loss is nan")
    record = ledger.spans("p")[0]
    assert (record.state, record.reason) == (SpanState.WAITING, "loss is nan")
    assert ledger.unclaimed("p") == ()
    assert claim(ledger, "r2").new_spans == ("jan",)


def test_a_refused_span_stays_out_and_its_companions_are_announced_again(ledger: Ledger) -> None:
    """One bad file of a burst must not hold the others up until something else lands."""
    land(ledger, "bad")
    land(ledger, "good")
    run_id = claim(ledger, "r1").run_id
    ledger.refuse_span(run_id, "bad", "it has no rows")
    ledger.finish_run(run_id, RunStatus.FAILED, message="span refused")
    assert states(ledger) == {"bad": "refused", "good": "waiting"}
    assert [span.name for span in ledger.unclaimed("p")] == ["good"]
    assert claim(ledger, "r2").new_spans == ("good",)


def test_a_refused_span_may_be_tried_again_on_request_or_under_another_name(ledger: Ledger) -> None:
    """After the schema was corrected the same bytes may be good."""
    land(ledger, "bad", "x")
    run_id = claim(ledger, "r1").run_id
    ledger.refuse_span(run_id, "bad", "a column is missing")
    ledger.finish_run(run_id, RunStatus.FAILED)
    assert land(ledger, "bad", "x", mtime_ns=2) is EventOutcome.DUPLICATE
    assert land(ledger, "renamed", "x") is EventOutcome.NEW
    assert claim(ledger, "r2", refused_too=True).new_spans == ("bad", "renamed")


def test_a_revision_that_lands_during_a_run_supersedes_when_the_run_ends(ledger: Ledger) -> None:
    """The run goes on with what it claimed; the next run gets the revision."""
    land(ledger, "jan", "a")
    run_id = claim(ledger, "r1").run_id
    land(ledger, "jan", "b")
    ledger.finish_run(run_id, RunStatus.APPROVED)
    rows = ledger._read(sa.select(schema.spans.c.state).order_by(schema.spans.c.revision))
    assert [row["state"] for row in rows] == ["superseded", "waiting"]
    got = claim(ledger, "r2")
    assert [(span.revision, span.sha256) for span in got.window] == [(2, "b")]


def test_a_cleared_task_reopens_its_run_with_its_spans(ledger: Ledger) -> None:
    """The run is running again and holds what nobody took since; reopening a running run changes nothing."""
    land(ledger, "jan")
    run_id = claim(ledger, "r1").run_id
    ledger.finish_run(run_id, RunStatus.FAILED, message="killed")
    for _ in range(2):
        ledger.reopen(run_id)
        assert states(ledger) == {"jan": "claimed"}
    run = ledger.run(run_id)
    assert run is not None
    assert (run.status, run.finished_at, run.message) == (RunStatus.RUNNING, None, "")


def test_a_reopened_run_does_not_take_spans_from_another_run(ledger: Ledger) -> None:
    """What a later run trained stays that run's."""
    land(ledger, "jan")
    first = claim(ledger, "r1").run_id
    ledger.finish_run(first, RunStatus.FAILED)
    train(ledger, "r2")
    ledger.reopen(first)
    ledger.finish_run(first, RunStatus.FAILED)
    record = ledger.spans("p")[0]
    assert (record.state, record.run_id) == (SpanState.TRAINED, "p-r2")


def test_pipelines_do_not_see_each_other(ledger: Ledger) -> None:
    """Two pipelines may be fed the same bytes."""
    land(ledger, "jan", "a")
    other = SeenFile(name="jan", uri="/in/jan.csv", format="csv", size_bytes=3, mtime_ns=1)
    assert ledger.record_landing("q", other, "a").kind is EventOutcome.NEW
    assert claim(ledger, "r1").new_spans == ("jan",)
    assert [record.state for record in ledger.spans("q")] == [SpanState.WAITING]


def test_the_same_event_twice_is_written_once(ledger: Ledger, tmp_path: Path) -> None:
    """A file that stays half-written fills no table; a change of the reason is a new event."""
    for message in ("no footer", "no footer", "no line end"):
        ledger.record_event("p", "jan", EventOutcome.INCOMPLETE, message, uri=tmp_path / "jan.csv")
    assert [event.message for event in ledger.events("p")] == ["no line end", "no footer"]


def test_an_unknown_run_is_an_error_that_names_it(ledger: Ledger) -> None:
    """Nothing is changed for a run that never was."""
    with pytest.raises(CTError, match="no run p-x"):
        ledger.finish_run("p-x", RunStatus.FAILED)


def _claim_in_a_process(root: Path, airflow_run: str, go: object, answers: object) -> None:
    ledger = Ledger.open(Home(root))
    go.wait()  # type: ignore[attr-defined]
    got = ledger.claim(ask(airflow_run))
    answers.put(None if got is None else got.new_spans)  # type: ignore[attr-defined]


def test_two_processes_that_claim_at_once_share_nothing(tmp_path: Path) -> None:
    """One of them gets every span, the others get none: no span is trained by two runs."""
    ledger = Ledger.open(Home(tmp_path))
    for number in range(5):
        land(ledger, f"span-{number}")
    context = multiprocessing.get_context("fork")
    go, answers = context.Event(), context.Queue()
    children = [
        context.Process(target=_claim_in_a_process, args=(tmp_path, f"r{number}", go, answers)) for number in range(3)
    ]
    for child in children:
        child.start()
    go.set()
    got = [answers.get(timeout=60) for _ in children]
    for child in children:
        child.join(60)
    assert sorted(got, key=str) == [tuple(f"span-{number}" for number in range(5)), None, None]
