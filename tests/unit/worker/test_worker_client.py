"""NodeRun: one node, through a worker or alone."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from conftest import Worker, eventually, is_running

from ct.contracts import NodeJob
from ct.errors import NodeFailedError
from ct.home import Home
from ct.worker import client

if TYPE_CHECKING:
    from pathlib import Path

LAUNCH = """
import json, os, pathlib, signal, sys, time
def main(argv):
    job = json.loads(pathlib.Path(argv[0]).read_text())
    folder = pathlib.Path(job["request_path"]).parent
    what = os.environ.get("PRETEND") or job["spec_dir"]
    print("node says hello from", os.getcwd(), flush=True)
    if what == "die":
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "wait":
        (folder / "pid").write_text(str(os.getpid()))
        time.sleep(60)
    result = {"node_id": job["node_id"], "ok": what != "fail", "seconds": 1, "peak_rss_mb": 2,
              "facts": {"home": os.environ["CT_HOME"], "keras": os.environ["TF_USE_LEGACY_KERAS"],
                        "port": os.environ["CT_MLFLOW_PORT"], "airflow": os.environ.get("AIRFLOW_HOME")}}
    (folder / f"{job['node_id']}.result.json").write_text(json.dumps(result))
    return 0 if what != "fail" else 1
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose nodes are the pretended ones above, in this very environment."""
    (tmp_path / "tiny_launch.py").write_text(LAUNCH)
    monkeypatch.setattr(client, "ENTRY", "tiny_launch:main")
    env = tmp_path / "env"
    (env / "bin").mkdir(parents=True)
    python = env / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("CT_TRAINING_ENV", str(env))
    monkeypatch.setenv("AIRFLOW_HOME", "/secret")
    return Home(tmp_path / "home").create()


def _node_run(home: Home, what: str, lines: list[str]) -> client.NodeRun:
    folder = home.runs / "flights-1"
    folder.mkdir(exist_ok=True)
    request = folder / "request.json"
    job = NodeJob(home=str(home.root), spec_dir=what, node_id="Trainer", request_path=str(request), attempt=1)
    return client.NodeRun(job, folder / "Trainer.job.json", home, lines.append)


@pytest.fixture(params=["worker", "alone"])
def way(request: pytest.FixtureRequest, home: Home, make_worker: object) -> str:
    """Each test runs through a warm worker and without one."""
    if request.param == "worker":
        made: Worker = make_worker()  # type: ignore[operator]
        home.socket("worker").symlink_to(made.socket)
    return str(request.param)


def test_node_result_and_environment(way: str, home: Home) -> None:
    """The result is what the node wrote; it saw CT_HOME, Keras 2, the settings, and nothing of Airflow's when alone."""
    lines: list[str] = []
    result = _node_run(home, "ok", lines).execute()
    assert result.ok
    assert result.facts["home"] == str(home.root)
    assert result.facts["keras"] == "1"
    assert result.facts["port"] == "5000"
    assert lines[-1] == f"node says hello from {home.runs / 'flights-1'}"
    if way == "alone":
        assert result.facts["airflow"] is None
        assert "WARNING: no warm worker" in lines[0]


def test_node_that_fails_in_order_returns_its_result(way: str, home: Home) -> None:
    """A node that wrote that it failed is no exception: whether to retry stands in the result."""
    assert not _node_run(home, "fail", []).execute().ok


def test_killed_node_names_memory_and_its_last_lines(way: str, home: Home) -> None:
    """SIGKILL without a result: the error says so, guesses at memory, quotes the output, and can be retried."""
    stale = home.runs / "flights-1" / "Trainer.result.json"
    stale.parent.mkdir()
    stale.write_text(json.dumps({"node_id": "Trainer", "ok": True, "seconds": 1, "peak_rss_mb": 1}))
    with pytest.raises(
        NodeFailedError, match=r"(?s)Trainer of run flights-1 .*SIGKILL.*ran out of memory.*last words"
    ) as e:
        _node_run(home, "die", []).execute()
    assert e.value.retryable
    assert e.value.facts["signal"] == 9


def test_cancel_from_another_thread_ends_the_node(way: str, home: Home) -> None:
    """cancel() ends the process, execute() raises and says cancelled."""
    run = _node_run(home, "wait", [])
    pid_file = home.runs / "flights-1" / "pid"

    def cancel() -> None:
        eventually(lambda: pid_file.exists() and pid_file.read_text(), "the node runs")
        run.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(NodeFailedError, match="was cancelled") as error:
        run.execute()
    thread.join()
    run.cancel()
    assert error.value.facts["cancelled"]
    assert not is_running(int(pid_file.read_text()))


def test_cancel_before_the_start_counts(way: str, home: Home) -> None:
    """A kill that arrives before the node began still ends it."""
    run = _node_run(home, "wait", [])
    run.cancel()
    with pytest.raises(NodeFailedError, match="was cancelled"):
        run.execute()


def test_lone_node_ends_with_its_starter(home: Home, tmp_path: Path) -> None:
    """A killed Airflow task leaves no node behind that would meet its own retry."""
    run = _node_run(home, "wait", [])
    pid = os.fork()
    if pid == 0:
        try:
            run.execute()
        finally:
            os._exit(0)
    pid_file = home.runs / "flights-1" / "pid"
    eventually(lambda: pid_file.exists() and pid_file.read_text(), "the node runs")
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    eventually(lambda: not is_running(int(pid_file.read_text())), "the node is gone")
