"""The ledger: what a landing becomes, who may claim it, and where spans end."""

from __future__ import annotations

import multiprocessing
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from ct.config import TriggerConfig
from ct.contracts import TriggerKind
from ct.errors import CTError
from ct.triggers import schema
from ct.triggers.claims import Ask, last_run
from ct.triggers.coalescing import Due, Wait, WaitingFor
from ct.triggers.ledger import Ledger
from ct.triggers.records import Arrival, EndKind, EventOutcome, RunStatus, SkipCause, SpanState

if TYPE_CHECKING:
    from ct.home import Home
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
def ledger(ledger_home: Home) -> Ledger:
    """An empty ledger."""
    return Ledger.open(ledger_home, Clock())


def arrival(name: str, sha256: str | None = None, *, fingerprint: str = "1", rows: int | None = None) -> Arrival:
    """A file that was hashed."""
    uri = f"/in/{name}.csv"
    return Arrival(
        name=name,
        source_uri=uri,
        uri=uri,
        format="csv",
        sha256=sha256 or f"hash of {name}",
        size_bytes=3,
        fingerprint=fingerprint,
        rows=rows,
    )


def land(
    ledger: Ledger, name: str, sha256: str | None = None, *, fingerprint: str | None = None, rows: int | None = None
) -> EventOutcome:
    """Record a landing."""
    found = arrival(name, sha256, fingerprint=fingerprint or f"of {sha256}", rows=rows)
    return ledger.record_landing("p", found).kind


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
    assert land(ledger, name, "a", fingerprint="2") is EventOutcome.DUPLICATE
    assert ledger.claim(ask("r2")) is None
    assert ledger.events("p")[0].message == "the same bytes as jan, revision 1"


def test_bytes_that_return_to_an_older_revision_are_a_revision(ledger: Ledger) -> None:
    """What the file holds now counts: bytes a, then b, then a again are revision 3."""
    for sha256 in ("a", "b", "a"):
        land(ledger, "jan", sha256)
    assert claim(ledger, "r1").window[0].revision == 3


def test_a_known_file_need_not_be_hashed_again(ledger: Ledger) -> None:
    """The ledger knows a file by address and fingerprint, also a duplicate; any change makes it unknown, one back too."""
    land(ledger, "jan", "a", fingerprint="1")
    land(ledger, "copy", "a", fingerprint="5")
    jan, copy = ("/in/jan.csv", "1"), ("/in/copy.csv", "5")
    assert ledger.known("p", [jan, copy, ("/in/jan.csv", "2"), ("/in/feb.csv", "1")]) == {jan, copy}
    assert ledger.known("q", [jan]) == frozenset()
    land(ledger, "jan", "b", fingerprint="2")
    assert ledger.known("p", [jan, ("/in/jan.csv", "2")]) == {("/in/jan.csv", "2")}


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


def test_catching_up_one_by_one_gives_each_span_a_run_in_order(ledger: Ledger) -> None:
    """Each window ends with the span that the run is for; what comes late is taken first, beside all that was trained."""
    for name in ("3", "4", "2"):
        land(ledger, name)
    windows = []
    for run in ("r1", "r2"):
        got = claim(ledger, run, one_by_one=True)
        windows.append([span.name for span in got.window])
        ledger.finish_run(got.run_id, RunStatus.APPROVED, message="better", version=1)
    land(ledger, "1")
    windows += [[span.name for span in claim(ledger, "r3", one_by_one=True).window]]
    assert windows == [["2"], ["2", "3"], ["1", "2", "3"]]
    assert states(ledger)["4"] == "waiting"


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
    assert [waiting.run_id for waiting in ledger.waiting("p")] == ["p-r1"]
    assert claim(ledger, "r2").new_spans == ("jan",)


def test_a_refused_span_stays_out_and_its_companions_are_announced_again(ledger: Ledger) -> None:
    """One bad file of a burst must not hold the others up until something else lands."""
    land(ledger, "bad")
    land(ledger, "good")
    run_id = claim(ledger, "r1").run_id
    ledger.finish_run(run_id, RunStatus.FAILED, message="span refused", refused={"bad": "it has no rows"})
    assert states(ledger) == {"bad": "refused", "good": "waiting"}
    assert [(waiting.span.name, waiting.run_id) for waiting in ledger.waiting("p")] == [("good", None)]
    assert claim(ledger, "r2").new_spans == ("good",)


def test_a_refused_span_may_be_tried_again_on_request_or_under_another_name(ledger: Ledger) -> None:
    """After the schema was corrected the same bytes may be good."""
    land(ledger, "bad", "x")
    run_id = claim(ledger, "r1").run_id
    ledger.finish_run(run_id, RunStatus.FAILED, refused={"bad": "a column is missing"})
    assert land(ledger, "bad", "x", fingerprint="2") is EventOutcome.DUPLICATE
    assert land(ledger, "renamed", "x") is EventOutcome.NEW
    assert claim(ledger, "r2", refused_too=True).new_spans == ("bad", "renamed")


def test_a_revision_that_lands_during_a_run_supersedes_when_the_run_ends(ledger: Ledger) -> None:
    """The run goes on with what it claimed; the next run gets the revision."""
    land(ledger, "jan", "a")
    run_id = claim(ledger, "r1").run_id
    land(ledger, "jan", "b")
    rows = ledger._database.read(sa.select(schema.spans.c.state).order_by(schema.spans.c.revision))
    assert [row["state"] for row in rows] == ["claimed", "waiting"]
    ledger.finish_run(run_id, RunStatus.APPROVED)
    rows = ledger._database.read(sa.select(schema.spans.c.state).order_by(schema.spans.c.revision))
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
    assert ledger.record_landing("q", arrival("jan", "a")).kind is EventOutcome.NEW
    assert claim(ledger, "r1").new_spans == ("jan",)
    assert [record.state for record in ledger.spans("q")] == [SpanState.WAITING]


def test_the_same_event_twice_is_written_once(ledger: Ledger) -> None:
    """A file that stays half-written fills no table; a change of the reason is a new event."""
    for message in ("no footer", "no footer", "no line end"):
        ledger.record_event("p", "jan", EventOutcome.INCOMPLETE, message, uri="/in/jan.csv")
    assert [event.message for event in ledger.events("p")] == ["no line end", "no footer"]


def test_an_unknown_run_is_an_error_that_names_it(ledger: Ledger) -> None:
    """Nothing is changed for a run that never was."""
    with pytest.raises(CTError, match="no run p-x"):
        ledger.finish_run("p-x", RunStatus.FAILED)


def _claim_in_a_process(root: Home, airflow_run: str, go: object, answers: object) -> None:
    ledger = Ledger.open(root)
    go.wait()  # type: ignore[attr-defined]
    got = ledger.claim(ask(airflow_run))
    answers.put(None if got is None else got.new_spans)  # type: ignore[attr-defined]


def test_two_processes_that_claim_at_once_share_nothing(ledger_home: Home) -> None:
    """One of them gets every span, the others get none: no span is trained by two runs."""
    ledger = Ledger.open(ledger_home)
    for number in range(5):
        land(ledger, f"span-{number}")
    context = multiprocessing.get_context("fork")
    go, answers = context.Event(), context.Queue()
    children = [
        context.Process(target=_claim_in_a_process, args=(ledger_home, f"r{number}", go, answers))
        for number in range(3)
    ]
    for child in children:
        child.start()
    go.set()
    got = [answers.get(timeout=60) for _ in children]
    for child in children:
        child.join(60)
    assert sorted(got, key=str) == [tuple(f"span-{number}" for number in range(5)), None, None]


def test_a_late_span_is_trained_on_or_left_out_as_the_policy_says(ledger: Ledger) -> None:
    """Older than the newest trained one. Left out it is an event, is not hashed again, and comes back with the policy."""
    land(ledger, "2013-02")
    train(ledger, "r1")
    late = arrival("2013-01", fingerprint="1")
    assert ledger.record_landing("p", late, "ignore").kind is EventOutcome.LATE
    assert "older than 2013-02" in ledger.events("p")[0].message
    assert ledger.waiting("p") == ()
    assert ledger.known("p", [("/in/2013-01.csv", "1")], "ignore")
    assert not ledger.known("p", [("/in/2013-01.csv", "1")], "train")
    assert ledger.record_landing("p", late, "train").kind is EventOutcome.NEW
    assert claim(ledger, "r2").new_spans == ("2013-01",)


def test_late_rows_of_an_old_span_that_are_left_out_leave_the_span_as_it_was(ledger: Ledger) -> None:
    """The revision that was trained on stays in the window; one of the newest span is not late."""
    for name in ("2013-01", "2013-02"):
        land(ledger, name, f"{name} a")
    train(ledger, "r1")
    assert ledger.record_landing("p", arrival("2013-01", "b"), "ignore").kind is EventOutcome.LATE
    assert states(ledger)["2013-01"] == "trained"
    assert ledger.record_landing("p", arrival("2013-02", "c"), "ignore").kind is EventOutcome.REVISION
    assert [span.revision for span in claim(ledger, "r2").window] == [1, 2]


def test_a_deleted_span_leaves_later_windows_when_it_is_to_be_forgotten(ledger: Ledger) -> None:
    """And is in them again when the source lists it again; both are events."""
    for name in ("jan", "feb"):
        land(ledger, name)
    train(ledger, "r1")
    for _ in range(2):
        ledger.note_listing("p", frozenset({"/in/feb.csv"}), "forget")
    assert [span.name for span in claim(ledger, "r2", force=True).window] == ["feb"]
    ledger.note_listing("p", frozenset({"/in/feb.csv", "/in/jan.csv"}), "forget")
    assert [span.name for span in claim(ledger, "r3", force=True).window] == ["feb", "jan"]
    outcomes = [event.outcome for event in ledger.events("p")][:2]
    assert outcomes == [EventOutcome.RETURNED, EventOutcome.DELETED]


def test_a_deleted_span_stays_in_the_window_when_it_is_to_be_kept(ledger: Ledger) -> None:
    """Written down all the same."""
    land(ledger, "jan")
    train(ledger, "r1")
    ledger.note_listing("p", frozenset(), "keep")
    assert [span.name for span in claim(ledger, "r2", force=True).window] == ["jan"]
    assert ledger.events("p")[0].outcome is EventOutcome.DELETED
    assert ledger.spans("p")[0].deleted == "keep"


def test_a_waiting_span_that_is_deleted_and_forgotten_waits_for_no_run(ledger: Ledger) -> None:
    """It is announced by nobody and claimed by nobody."""
    land(ledger, "jan")
    ledger.note_listing("p", frozenset(), "forget")
    assert ledger.waiting("p") == ()
    assert isinstance(ledger.decide("p", TriggerConfig()), Wait)
    assert ledger.ends("p", TriggerConfig())[-1].end is EndKind.REJECTED
    assert ledger.claim(ask("r1")) is None


def test_a_claim_that_comes_too_early_is_a_skipped_run_with_its_cause(ledger: Ledger) -> None:
    """Nothing is claimed, and the next claim of the same Airflow run may."""
    land(ledger, "jan", rows=10)
    too_few = TriggerConfig(min_new_rows=11)
    assert ledger.claim(ask("r1", coalescing=too_few)) is None
    (run,) = ledger.runs("p")
    assert (run.cause, run.message) == (SkipCause.TOO_FEW_ROWS, "10 of 11 new rows are there")
    assert claim(ledger, "r1", coalescing=TriggerConfig(min_new_rows=10)).new_spans == ("jan",)


def test_the_cooldown_counts_from_the_last_run_that_claimed(ledger: Ledger) -> None:
    """Skipped runs and backfills between do not make it longer."""
    land(ledger, "jan")
    train(ledger, "r1")
    land(ledger, "feb")
    settings = TriggerConfig(cooldown_s=60 * 60)
    assert ledger.claim(ask("r2", coalescing=settings)) is None
    first = ledger.decide("p", settings)
    assert ledger.claim(ask("b1", trigger=TriggerKind.BACKFILL, seen_until=START)) is None
    assert ledger.claim(ask("r3", coalescing=settings)) is None
    again = ledger.decide("p", settings)
    assert isinstance(first, Wait)
    assert isinstance(again, Wait)
    assert (again.what, again.until) == (WaitingFor.COOLDOWN, first.until)


def test_failures_in_a_row_are_counted_until_a_run_is_judged(ledger: Ledger) -> None:
    """So the pause between tries grows, and starts anew."""
    land(ledger, "jan")
    for number in range(2):
        ledger.finish_run(claim(ledger, f"f{number}").run_id, RunStatus.FAILED, message="bug")
    found = last_run(ledger.runs("p"))
    assert found is not None
    assert found.failures == 2
    train(ledger, "r1")
    found = last_run(ledger.runs("p"))
    assert found is not None
    assert found.failures == 0


def test_a_run_that_its_data_stopped_refuses_and_settles_in_one_transaction(ledger: Ledger) -> None:
    """The refused span stays out, the other waits as if no run had had it, and the run is a skipped one."""
    land(ledger, "bad")
    land(ledger, "good")
    run_id = claim(ledger, "r1").run_id
    refused = {"bad": "it has no rows", "stranger": "not in the window"}
    for _ in range(2):
        ledger.finish_run(run_id, RunStatus.SKIPPED, cause=SkipCause.UNREADABLE_SPAN, refused=refused)
    assert states(ledger) == {"bad": "refused", "good": "waiting"}
    assert ledger.decide("p", TriggerConfig()) == Due()
    run = ledger.run(run_id)
    assert run is not None
    assert (run.status, run.cause) == (RunStatus.SKIPPED, SkipCause.UNREADABLE_SPAN)


def test_data_that_stops_a_run_without_refusing_a_span_is_not_tried_for_ever(ledger: Ledger) -> None:
    """The anomaly is in spans that had passed before; somebody must look, or something new must land."""
    land(ledger, "jan")
    ledger.finish_run(claim(ledger, "r1").run_id, RunStatus.SKIPPED, message="drift", cause=SkipCause.SCHEMA_BREAK)
    found = ledger.decide("p", TriggerConfig())
    assert isinstance(found, Wait)
    assert found.what is WaitingFor.SOMEBODY
    land(ledger, "feb")
    assert ledger.decide("p", TriggerConfig()) == Due()
