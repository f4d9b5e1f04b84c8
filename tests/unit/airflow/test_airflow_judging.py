"""Which rows the next candidate is judged on again, because they were too few to tell."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from ct.airflow.judging import undecided_spans
from ct.config import PipelineConfig
from ct.contracts import NodeResult, RunRequest, TriggerKind
from ct.home import Home, write_atomically
from ct.triggers.claims import Ask
from ct.triggers.ledger import Ledger
from ct.triggers.records import Arrival, RunStatus

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2013, 1, 1, tzinfo=timezone.utc)


def config(inconclusive: str) -> PipelineConfig:
    """A pipeline whose policy says this of candidates that the data cannot tell."""
    values: dict[str, Any] = {
        "name": "p",
        "description": "d",
        "owner": "o",
        "label": "y",
        "window": {"time_column": "t"},
    }
    return PipelineConfig.model_validate({**values, "gate": {"threshold": 0.6, "inconclusive": inconclusive}})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path).create()


def judged_run(home: Home, name: str, status: RunStatus, *, comparable: bool = True, kind: str = "data") -> None:
    """A run that claimed this span, was judged on it, and ended so."""
    ledger = Ledger.open(home)
    ledger.record_landing(
        "p", Arrival(name=name, source_uri=name, uri=name, format="csv", sha256=name, size_bytes=1, fingerprint=name)
    )
    claim = ledger.claim(
        Ask(
            pipeline="p",
            run_id=f"p-{name}",
            trigger=TriggerKind(kind),
            airflow_dag_id="p",
            airflow_run_id=name,
            asked_at=NOW,
            max_spans=None,
        )
    )
    assert claim is not None
    request = RunRequest(
        run_id=claim.run_id,
        pipeline="p",
        spec_hash="0",
        trigger=claim.trigger,
        requested_at=NOW,
        spans=claim.window,
        new_spans=claim.new_spans,
        seed=1,
        airflow_dag_id="p",
        airflow_run_id=name,
        mlflow_run_id=None,
    )
    gate = NodeResult(node_id="Gate", ok=True, seconds=1, peak_rss_mb=1, facts={"comparable": comparable})
    write_atomically(home.request_path(claim.run_id), request.model_dump_json())
    write_atomically(home.runs / claim.run_id / "Gate.result.json", gate.model_dump_json())
    ledger.finish_run(claim.run_id, status)


def test_an_inconclusive_run_leaves_its_rows_for_the_next(home: Home) -> None:
    """Its span counts as trained, and is judged on again."""
    judged_run(home, "a", RunStatus.APPROVED)
    judged_run(home, "b", RunStatus.INCONCLUSIVE)
    assert undecided_spans(home, Ledger.open(home), config("wait")) == ("b",)
    assert [record.state.value for record in Ledger.open(home).spans("p")] == ["trained", "trained"]


@pytest.mark.parametrize("policy", ["keep", "ask"])
def test_other_policies_wait_for_nothing(home: Home, policy: str) -> None:
    """The next candidate learns from what was undecided."""
    judged_run(home, "a", RunStatus.INCONCLUSIVE)
    assert undecided_spans(home, Ledger.open(home), config(policy)) == ()


@pytest.mark.parametrize("status", [RunStatus.APPROVED, RunStatus.REFUSED])
def test_a_run_that_could_tell_leaves_nothing(home: Home, status: RunStatus) -> None:
    """Also after one before it that could not."""
    judged_run(home, "a", RunStatus.INCONCLUSIVE)
    judged_run(home, "b", status)
    assert undecided_spans(home, Ledger.open(home), config("wait")) == ()


def test_an_unfair_comparison_is_not_waited_for(home: Home) -> None:
    """More rows would not make it fair."""
    judged_run(home, "a", RunStatus.INCONCLUSIVE, comparable=False)
    assert undecided_spans(home, Ledger.open(home), config("wait")) == ()


def test_backfills_do_not_count(home: Home) -> None:
    """They look back."""
    judged_run(home, "a", RunStatus.INCONCLUSIVE)
    judged_run(home, "b", RunStatus.APPROVED, kind="backfill")
    assert undecided_spans(home, Ledger.open(home), config("wait")) == ("a",)
