"""The first task of a run: what it takes, and when it takes nothing."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import (
    AirflowSkipException,
)
from task_run import Registry, Run, approve, deploy

from ct.contracts import TriggerKind
from ct.triggers.records import RunStatus, SkipCause, SpanState


def test_claim_writes_the_request_of_the_run(run: Run) -> None:
    """Everything that is decided before the first node is in request.json; the run id names pipeline and time."""
    run.land("jan")
    request = run.claim()
    assert request.run_id.startswith("p-20")
    assert request.trigger is TriggerKind.DATA
    assert (request.seed, request.spec_hash, request.airflow_run_id) == (7, "0" * 16, "r1")
    assert request.mlflow_run_id == f"m-{request.run_id}"
    assert [span.name for span in request.spans] == ["jan"]


def test_the_request_has_the_recipe_of_its_spec(run: Run) -> None:
    """So its fingerprint is the same whatever else of the pipeline changed; a spec from before recipes has none."""
    run.land("jan")
    assert run.claim().recipe_hash is None
    deploy(run.home, "1" * 16, recipe_hash="r1")
    run.land("feb")
    request = run.claim("r2")
    assert (request.spec_hash, request.recipe_hash) == ("1" * 16, "r1")


def test_claim_goes_on_without_mlflow(run: Run) -> None:
    """Register begins the MLflow run later; training must not wait for a record keeper."""
    Registry.down = True
    run.land("jan")
    assert run.claim().mlflow_run_id is None


def test_a_retried_claim_leaves_the_request_as_it_was(run: Run) -> None:
    """Nodes may have read it already."""
    run.land("jan")
    first = run.claim()
    run.land("feb")
    assert run.claim() == first


def test_a_claim_that_crashed_before_its_request_was_written_begins_no_second_mlflow_run(run: Run) -> None:
    """The ledger remembers the first."""
    run.land("jan")
    first = run.claim()
    run.home.request_path(first.run_id).unlink()
    Registry.down = True
    assert run.claim().mlflow_run_id == first.mlflow_run_id


def test_nothing_to_claim_skips_with_the_reason(run: Run) -> None:
    """The reason is what Airflow's log shows."""
    with pytest.raises(AirflowSkipException, match="no span has landed yet"):
        run.claim()


@pytest.mark.parametrize(
    ("run_type", "kind"),
    [
        ("manual", TriggerKind.MANUAL),
        ("scheduled", TriggerKind.SCHEDULE),
        ("asset_triggered", TriggerKind.DATA),
        ("backfill", TriggerKind.BACKFILL),
    ],
)
def test_the_request_says_what_asked_for_the_run(run: Run, run_type: str, kind: TriggerKind) -> None:
    """Airflow's run type, in ct's words; the backfill is of a date before any span was seen, so it is skipped."""
    run.land("jan")
    if kind is TriggerKind.BACKFILL:
        with pytest.raises(AirflowSkipException):
            run.claim(run_type=run_type)
        found = run.ledger.runs("p")[0].trigger
    else:
        found = run.claim(run_type=run_type).trigger
    assert found is kind


def test_a_forced_run_retrains_on_the_current_window(run: Run) -> None:
    """With nothing new at all."""
    run.land("jan")
    run.claim()
    run.result("Gate", facts={"outcome": "approved", "reason": "good"})
    run.finish()
    with pytest.raises(AirflowSkipException, match="nothing has landed"):
        run.claim("r2", "manual")
    forced = run.claim("r3", "manual", force=True)
    assert [span.name for span in forced.spans] == ["jan"]
    assert forced.new_spans == ()


@pytest.mark.parametrize("state", ["failed", "success", None])
def test_claim_closes_runs_that_ended_unnoticed(run: Run, state: str | None) -> None:
    """The scheduler was killed, or the run deleted: its spans go to the next run instead of being held for ever."""
    run.land("jan")
    lost = run.claim("r1")
    if state:
        run.other_runs["r1"] = state
    assert run.claim("r2").new_spans == ("jan",)
    closed = run.ledger.run(lost.run_id)
    assert closed is not None
    assert closed.status is RunStatus.FAILED


def test_claim_leaves_a_run_that_goes_on_alone(run: Run) -> None:
    """A backfill may run beside it."""
    run.land("jan")
    run.claim("r1")
    run.other_runs["r1"] = "running"
    with pytest.raises(AirflowSkipException):
        run.claim("r2")


def test_a_claim_looks_at_the_source_first(run: Run) -> None:
    """A pipeline without a watcher, or a message that announced data: what is there now is what the run gets."""
    deploy(run.home, trigger={"on_data": False, "schedule": "0 9 * * *", "settle_s": 0})
    (run.folder / "jan.csv").write_text("a\n1\n")
    (run.folder / "half.csv").write_text("a\n1")
    request = run.claim(run_type="scheduled")
    assert request.new_spans == ("jan",)
    assert request.spans[0].uri == str(run.folder / "jan.csv")
    assert [event.name for event in run.ledger.unsettled("p")] == ["half"]


def test_a_claim_waits_for_what_is_still_settling(run: Run) -> None:
    """Once, for the settling time: no watcher would have seen the file earlier."""
    deploy(run.home, trigger={"settle_s": 0.05})
    (run.folder / "jan.csv").write_text("a\n1\n")
    assert run.claim(run_type="manual").new_spans == ("jan",)


def test_a_claim_does_not_wait_for_files_it_knows(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger has them; every run would lose the settling time."""
    deploy(run.home, trigger={"settle_s": 0.05})
    (run.folder / "jan.csv").write_text("a\n1\n")
    run.claim(run_type="manual")
    approve(run)
    monkeypatch.setattr("ct.airflow.claim.time.sleep", lambda s: pytest.fail(f"waited {s} s"))
    with pytest.raises(AirflowSkipException):
        run.claim("r2", "manual")


def test_a_backfill_does_not_look(run: Run) -> None:
    """It is about what had been seen by its date."""
    deploy(run.home, trigger={"settle_s": 0})
    (run.folder / "jan.csv").write_text("a\n1\n")
    with pytest.raises(AirflowSkipException):
        run.claim(run_type="backfill")
    assert run.ledger.events("p") == ()


def test_a_source_that_is_away_is_written_down_and_the_run_goes_on(run: Run) -> None:
    """With what the ledger has: its bytes may be there still."""
    run.land("jan")
    run.folder.rmdir()
    assert run.claim().new_spans == ("jan",)
    assert "does not exist" in run.ledger.unsettled("p")[0].message


@pytest.mark.parametrize("run_type", ["asset_triggered", "scheduled"])
def test_data_and_schedule_wait_for_enough_rows(run: Run, run_type: str) -> None:
    """The run is skipped with the count as its reason, and the span waits on."""
    deploy(run.home, trigger={"min_new_rows": 100})
    run.land("jan", rows=99)
    with pytest.raises(AirflowSkipException, match="99 of 100 new rows"):
        run.claim(run_type=run_type)
    assert run.ledger.runs("p")[0].cause is SkipCause.TOO_FEW_ROWS
    assert run.states() == {"jan": SpanState.WAITING}


@pytest.mark.parametrize("more", [{}, {"force": True}])
def test_a_person_does_not_wait(run: Run, more: dict[str, bool]) -> None:
    """A manual run takes what is there; so does a forced one."""
    deploy(run.home, trigger={"min_new_rows": 100, "cooldown_s": 1000})
    run.land("jan", rows=1)
    assert run.claim(run_type="manual", **more).new_spans == ("jan",)


def test_a_burst_within_the_cooldown_is_one_run_over_the_union(run: Run) -> None:
    """500 landings after a run: each announcement is skipped until the cooldown is over, then one run has them all."""
    deploy(run.home, trigger={"cooldown_s": 1000, "max_wait_s": 2000})
    run.land("0000")
    run.claim()
    approve(run)
    for number in range(500):
        run.land(f"{number + 1:04}")
    with pytest.raises(AirflowSkipException, match="cooldown after run p-"):
        run.claim("r2")
    deploy(run.home, "1" * 16)
    assert len(run.claim("r3").new_spans) == 500


def test_a_skipped_run_that_is_cleared_claims_anew(run: Run) -> None:
    """After the schema was corrected: the refused span is tried again on request, with a request of its own."""
    run.land("bad")
    first = run.claim()
    facts = {"refused": {"bad": "no rows"}}
    run.result("ExampleGen", ok=False, message="refused", error_type="SpanRefusedError", facts=facts)
    run.finish()
    again = run.claim(retry_refused=True)
    assert (again.run_id, again.new_spans) == (first.run_id, ("bad",))
