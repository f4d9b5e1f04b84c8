"""What the launcher leaves behind when a node cannot even start; no TFX is needed for that."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from ct.contracts import NodeJob, NodeResult
from ct.errors import DataAnomalyError, RegistryError
from ct.training import launch
from ct.training.facts import collected, report
from tests.manifests import MADE_WITH

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def job_path(tmp_path: Path) -> Path:
    """A job whose run folder exists and is empty."""
    job = NodeJob(
        home=str(tmp_path),
        spec_dir=str(tmp_path),
        node_id="Trainer",
        request_path=str(tmp_path / "request.json"),
        attempt=1,
    )
    path = tmp_path / "Trainer.job.json"
    path.write_text(job.model_dump_json(), encoding="utf-8")
    return path


def read_result(job_path: Path) -> NodeResult:
    """The NodeResult next to the job."""
    return NodeResult.model_validate_json(job_path.with_name("Trainer.result.json").read_text(encoding="utf-8"))


def test_error_on_purpose_keeps_its_type_and_facts(job_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CTError reaches the operator with its name, message, facts and whether a retry can help."""

    def run_node(_job: NodeJob) -> None:
        raise DataAnomalyError("broken", anomalies=["a"])

    monkeypatch.setattr(launch, "run_node", run_node)
    assert launch.main([str(job_path)]) == 1
    result = read_result(job_path)
    assert (result.ok, result.error_type, result.retryable) == (False, "DataAnomalyError", False)
    assert result.message == "broken"
    assert result.facts == {"anomalies": ["a"]}


def test_a_node_says_what_it_ran_with(job_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt for itself: ct may be another one by then."""
    monkeypatch.setattr(launch, "run_node", lambda _job: MADE_WITH)
    assert launch.main([str(job_path)]) == 0
    assert read_result(job_path).made_with == MADE_WITH


def test_retryable_error_on_purpose_is_retryable(job_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a retry can help is the error type's answer."""

    def run_node(_job: NodeJob) -> None:
        raise RegistryError("MLflow is away")

    monkeypatch.setattr(launch, "run_node", run_node)
    assert launch.main([str(job_path)]) == 1
    assert read_result(job_path).retryable


def test_unknown_error_may_be_retried_and_names_the_node(job_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what a library's error means, so another try is allowed."""

    def run_node(_job: NodeJob) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(launch, "run_node", run_node)
    assert launch.main([str(job_path)]) == 1
    result = read_result(job_path)
    assert result.retryable
    assert result.message == "Trainer: ZeroDivisionError: division by zero"


def test_facts_that_are_no_json_do_not_lose_the_result(job_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result is written whatever a component reports; a value that JSON lacks is written as text."""

    def run_node(_job: NodeJob) -> None:
        report("done", where=job_path.parent, odd=range(2))

    monkeypatch.setattr(launch, "run_node", run_node)
    assert launch.main([str(job_path)]) == 0
    assert read_result(job_path).facts == {"where": str(job_path.parent), "odd": "range(0, 2)"}


def test_reports_of_a_node_end_with_it() -> None:
    """What one node reported is not seen by the next."""
    with collected() as first:
        report("one", rows=1)
        report("two", bytes=2)
    with collected() as second:
        pass
    assert (first.message, first.values) == ("two", {"rows": 1, "bytes": 2})
    assert (second.message, second.values) == ("", {})


def test_whole_protobufs_are_cut_in_the_log() -> None:
    """One record does not fill the task's log; tracebacks stay whole."""
    record = logging.LogRecord("tfx", logging.INFO, __file__, 1, "x" * 100_000, None, None)
    text = launch._Shortened("%(message)s").format(record)
    assert len(text) < launch.LONGEST_RECORD + 50
    assert text.endswith("(98,500 more characters)")


def test_tracebacks_are_not_cut() -> None:
    """A record with an error in it is shown whole."""
    error = ValueError("y" * 10_000)
    record = logging.LogRecord("tfx", logging.ERROR, __file__, 1, "failed", None, (ValueError, error, None))
    assert "y" * 10_000 in launch._Shortened("%(message)s").format(record)
