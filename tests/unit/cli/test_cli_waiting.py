"""What the command line shows while it waits: for a run's end, a node's log, a start."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from ct.airflow.api import DagRun, TaskInstance
from ct.cli.pins import differences
from ct.cli.pipelines import await_end
from ct.cli.progress import StartProgress
from ct.cli.run_progress import RunProgress
from ct.cli.runs import print_log
from ct.contracts import Approval, NodeResult, TriggerKind
from ct.errors import CTError, OrchestratorError
from ct.home import Home, write_atomically
from ct.triggers.records import RunRecord, RunStatus
from ct.verdict_page.record import Question, answer, ask

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)
RUN = RunRecord(
    run_id="flights-1",
    pipeline="flights",
    trigger=TriggerKind.MANUAL,
    status=RunStatus.RUNNING,
    spans=("2013-01",),
    window=("2013-01",),
    requested_at=NOW,
    started_at=NOW,
    finished_at=None,
    message="",
    version=None,
    airflow_dag_id="flights",
    airflow_run_id="manual-1",
    mlflow_run_id=None,
)


class Airflow:
    """Gives prepared answers in order, and the last one again; an exception is raised."""

    def __init__(self, *, runs: tuple[Any, ...] = (), tasks: tuple[Any, ...] = (), logs: tuple[str, ...] = ()) -> None:
        self._answers = {"runs": list(runs), "tasks": list(tasks), "logs": list(logs)}

    def dag_runs(self, dag_id: str, limit: int = 20) -> tuple[DagRun, ...]:
        state = self._next("runs")
        run = DagRun(run_id="manual-1", dag_id=dag_id, run_type="manual", state=state, run_after=NOW)
        return (run,)

    def task_instances(self, dag_id: str, run_id: str) -> tuple[TaskInstance, ...]:
        state, number = self._next("tasks")
        return (TaskInstance(task_id="train.Trainer", state=state, try_number=number),)

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> str:
        return str(self._next("logs"))

    def _next(self, kind: str) -> Any:
        answers = self._answers[kind]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_waiting_for_a_run_survives_that_airflow_is_away_for_a_while() -> None:
    """The daemon may be starting the API server again; the run goes on meanwhile."""
    airflow: Any = Airflow(runs=("running", OrchestratorError("away"), "running", "failed"))
    looks: list[str] = []
    assert await_end(airflow, "flights", "manual-1", lambda: looks.append("look"), poll_s=0) == "failed"
    assert len(looks) == 4


def test_waiting_for_a_run_ends_when_airflow_stays_away() -> None:
    """With the error that says what to do."""
    airflow: Any = Airflow(runs=(OrchestratorError("away"),))
    with pytest.raises(OrchestratorError, match="away"):
        await_end(airflow, "flights", "manual-1", lambda: None, poll_s=0, patience_s=0.01)


def test_a_run_that_is_waited_for_says_each_thing_once(tmp_path: Path) -> None:
    """Each node as it ends, in order, and that a person is asked; again only when it is another question."""
    home, lines = Home(tmp_path / "home").create(), []
    progress = RunProgress(home, lines.append)

    def ended(node: str, message: str = "") -> None:
        result = NodeResult(node_id=node, ok=not message, message=message, seconds=1.25, peak_rss_mb=1)
        write_atomically(home.runs / RUN.run_id / f"{node}.result.json", result.model_dump_json())
        progress.look(RUN)

    progress.look(RUN)
    ended("Transform")
    ended("Gate")
    ask(home, RUN.run_id, Question(asked_at=NOW, until=NOW, approves_by_default=False))
    progress.look(RUN)
    progress.look(RUN)
    answer(home, RUN.run_id, Approval(approved=True, by="ada", at=NOW, reason="yes"))
    ended("Prove", "p99 9.0 ms")
    assert lines[:2] == ["  Transform 1.2 s", "  Gate 1.2 s"]
    assert lines[2].startswith("  waits for a person, asked ")
    assert lines[3:] == ["  Prove 1.2 s, failed: p99 9.0 ms"]
    ended("Prove")
    assert lines[4:] == ["  Prove 1.2 s"]


def test_following_a_log_prints_each_line_once_and_every_try(capsys: pytest.CaptureFixture[str]) -> None:
    """A retry's log begins anew, under a line that says so."""
    airflow: Any = Airflow(
        tasks=((None, 0), ("running", 1), ("up_for_retry", 1), ("running", 2), ("success", 2)),
        logs=("a", "a\nb", "c", "c\nd"),
    )
    print_log(airflow, RUN, "Trainer", follow=True, poll_s=0)
    assert capsys.readouterr().out.splitlines() == ["a", "b", "-- try 2", "c", "d"]


def test_a_log_of_an_unknown_node_names_the_known_ones() -> None:
    """And of a node that has not started it says so."""
    airflow: Any = Airflow(tasks=((None, 0),))
    with pytest.raises(CTError, match=r"no task Trianer. Its tasks: train\.Trainer"):
        print_log(airflow, RUN, "Trianer", follow=False)


def test_a_start_is_a_line_an_event_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    """A log gets lines, no control characters."""
    with StartProgress(live=False) as progress:
        assert not progress.told
        progress("worker", "starting", 0.1)
        progress("worker", "healthy", 7.25)
    assert capsys.readouterr().out == "    7.2 s  worker is healthy\n"
    assert progress.told


def test_a_start_is_a_live_table_at_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What is healthy and what is not stand side by side."""
    with StartProgress(live=True) as progress:
        progress("mlflow", "healthy", 3.0)
        progress("worker", "starting", 4.0)
    shown = capsys.readouterr().out
    assert "healthy after 3.0 s" in shown
    assert "worker" in shown


def test_packages_are_compared_with_the_pins_by_their_normal_names(tmp_path: Path) -> None:
    """`Foo_Bar` and `foo-bar` are one package; extras and markers are not part of a version."""
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    for folder in ("Foo_Bar-1.0.dist-info", "other-2.0.dist-info", "beyond-9.dist-info"):
        (site / folder).mkdir(parents=True)
    pins = tmp_path / "control.txt"
    pins.write_text(
        "foo-bar[extra]==1.0 ; python_version > '3' \\\n    --hash=sha256:00\nother==2.1 \\\nmissing==1.0\n    # via foo==3\n"
    )
    assert differences(pins, tmp_path / "env") == ["missing is missing", "other is 2.0, not 2.1"]
