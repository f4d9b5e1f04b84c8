"""People are told how runs ended, and that one waits for them: once, what they asked for, and nothing from before."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from monitor_parts import T0

from ct.contracts import Approval, TriggerKind
from ct.home import write_atomically
from ct.monitor.__main__ import Monitor
from ct.monitor.notify import Outbox
from ct.monitor.run_news import RunNews
from ct.monitor_config import MonitorConfig
from ct.settings import Settings
from ct.triggers.database import LedgerError
from ct.triggers.records import RunRecord, RunStatus
from ct.verdict_page.record import Question, answer, ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.home import Home

CONFIG = MonitorConfig(notify=("ops",))


def run_of(number: int, status: RunStatus, message: str = "") -> RunRecord:
    """A run of flights."""
    return RunRecord(
        run_id=f"flights-{number}",
        pipeline="flights",
        trigger=TriggerKind.DATA,
        status=status,
        spans=("2013-02",),
        window=("2013-01", "2013-02"),
        requested_at=T0,
        started_at=T0,
        finished_at=None if status is RunStatus.RUNNING else T0,
        message=message,
        version=4 if status is RunStatus.REFUSED else None,
        airflow_dag_id="flights",
        airflow_run_id=f"scheduled-{number}",
        mlflow_run_id=None,
    )


class Telling:
    """The news of a pipeline whose runs the test moves; each look is by a new process."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.runs: list[RunRecord] = []
        self.sent: list[tuple[str, str]] = []
        (home.secrets / "notify.yaml").write_text("ops: json://127.0.0.1/\n")
        (home.secrets / "notify.yaml").chmod(0o600)

    def look(self, config: MonitorConfig = CONFIG) -> list[tuple[str, str]]:
        """Title and text of what this look told."""
        folder = self.home.monitor / "flights"
        news = RunNews(self.home, lambda _: self.runs, folder, Outbox(self.home, folder / "outbox", self._send))
        self.sent.clear()
        news.look(config, T0)
        return list(self.sent)

    def _send(self, _: Sequence[str], title: str, body: str) -> bool:
        self.sent.append((title, body))
        return True


@pytest.fixture
def telling(home: Home) -> Telling:
    """Looked once already."""
    made = Telling(home)
    made.look()
    return made


def test_a_failure_and_a_refusal_are_told_once_with_the_reason(telling: Telling) -> None:
    """Other ends are in `ct runs` for whoever wants to know."""
    telling.runs = [
        run_of(3, RunStatus.APPROVED),
        run_of(2, RunStatus.REFUSED, "auc fell by 0.02"),
        run_of(1, RunStatus.FAILED, "Trainer ran out of memory"),
    ]
    told = sorted(telling.look())
    assert [title for title, _ in told] == [
        "flights: a run ended failed",
        "flights: a run ended refused (version 4)",
    ]
    assert "Trainer ran out of memory" in told[0][1]
    assert "2013-02" in told[0][1]
    assert "auc fell by 0.02" in told[1][1]
    assert telling.look() == []


def test_what_ended_before_the_first_look_is_not_told(home: Home) -> None:
    """A monitor that is switched on floods nobody; a candidate that waits is told, for it waits still."""
    telling = Telling(home)
    telling.runs = [run_of(2, RunStatus.RUNNING), run_of(1, RunStatus.FAILED)]
    question(home, "flights-2")
    assert [title for title, _ in telling.look()] == ["flights: a candidate waits for your answer"]


def test_a_question_is_told_once_and_again_when_the_gate_asks_anew(telling: Telling) -> None:
    """Answered, it is news no more."""
    telling.runs = [run_of(1, RunStatus.RUNNING)]
    assert telling.look() == []
    question(telling.home, "flights-1")
    ((title, body),) = telling.look()
    assert title == "flights: a candidate waits for your answer"
    assert "`ct why flights --run flights-1`" in body
    assert "`ct approve` or `ct reject flights --run flights-1 --reason" in body
    assert telling.look() == []
    answer(telling.home, "flights-1", Approval(approved=True, by="ann", at=T0, reason="fine"))
    assert telling.look() == []
    question(telling.home, "flights-1")
    assert len(telling.look()) == 1


def test_pipeline_yaml_says_which_news(telling: Telling) -> None:
    """Everything, or nothing."""
    telling.runs = [run_of(1, RunStatus.SKIPPED), run_of(2, RunStatus.FAILED)]
    assert len(telling.look(MonitorConfig(notify=("ops",), notify_runs=("skipped",)))) == 1
    telling.runs.append(run_of(3, RunStatus.FAILED))
    assert telling.look(MonitorConfig(notify=("ops",), notify_runs=())) == []


def test_trouble_with_the_news_keeps_no_model_from_being_watched(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that is away must not switch rollbacks off, nor one pipeline's news the next one's."""
    looked: list[str] = []

    def news_of(name: str) -> SimpleNamespace:
        looked.append(f"news of {name}")
        raise LedgerError("The ledger is away.")

    def model_of(name: str, variant: str) -> SimpleNamespace:
        return SimpleNamespace(look=lambda _: looked.append(f"{name} {variant}"))

    monkeypatch.setattr("ct.monitor.__main__.deployed_pipelines", lambda _: ("flights", "trips"))
    monkeypatch.setattr("ct.monitor.__main__.config_of", lambda *_: CONFIG)
    monitor = Monitor(home, Settings())
    monkeypatch.setattr(monitor, "_news_of", news_of)
    monkeypatch.setattr(monitor, "_of", model_of)
    for name in ("flights", "trips"):
        write_atomically(home.models / name / "desired.json", "{}")
    monitor.look()
    assert looked == [
        *("flights champion", "flights canary", "trips champion", "trips canary"),
        *("news of flights", "news of trips"),
    ]


def question(home: Home, run_id: str) -> None:
    """A person is asked in a run."""
    (home.runs / run_id).mkdir(parents=True, exist_ok=True)
    ask(home, run_id, Question(asked_at=T0, until=T0 + timedelta(days=1), approves_by_default=False))
