"""The warm worker's server, with real forks."""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
from pathlib import Path

import pytest
from conftest import Worker, eventually, is_running

from ct.errors import WorkerLostError
from ct.worker import protocol
from ct.worker.execution import NoWorkerError, ping


def _pid_in(path: Path) -> int:
    eventually(lambda: path.exists() and path.read_text(), f"{path.name} is written")
    return int(path.read_text())


def test_job_runs_in_a_fork_that_shares_the_preload(worker: Worker) -> None:
    """The job's module was imported by the server; the job has its own session, folder, environment and OOM score."""
    code, _, lines = worker.run("fork_facts")
    imported_by, pid, session, cwd, colour = lines[0].split()
    assert code == 0
    assert int(imported_by) == worker.process.pid != int(pid)
    assert session == pid
    assert cwd == str(worker.folder)
    assert colour == "green"
    assert "to stderr" in lines
    raised = min(1000, int(Path("/proc/self/oom_score_adj").read_text()) + 500)
    assert f"oom {raised}" in lines


@pytest.mark.parametrize(
    ("job", "exit_code", "number", "said"),
    [
        (("fail",), 1, None, "RuntimeError: it broke"),
        (("exit_with", "7"), 7, None, ""),
        (("kill_self", "SIGSEGV"), None, signal.SIGSEGV, ""),
        (("kill_self", "SIGKILL"), None, signal.SIGKILL, ""),
        (("eat_memory",), 1, None, "MemoryError"),
    ],
)
def test_server_survives_a_job_that_dies(
    worker: Worker, job: tuple[str, ...], exit_code: int | None, number: int | None, said: str
) -> None:
    """However a job ends, the client learns how, and the next job runs."""
    assert worker.run(*job)[:2] == (exit_code, number)
    assert any(said in line for line in [*worker.run(*job)[2], ""])
    assert worker.run("say", "still", "here") == (0, None, ["still here"])


def test_huge_and_undecodable_output_arrives_in_pieces(worker: Worker) -> None:
    """A megabyte without a line end and bytes that are not UTF-8 are cut and replaced, and nothing is lost."""
    code, _, lines = worker.run("blob")
    assert code == 0
    assert lines[-1] == "end"
    assert max(map(len, lines)) <= protocol.MAX_LINE_BYTES
    assert "".join(lines[:-1]) == "\ufffd\ufffd" + "x" * 1_000_000


def test_end_reports_seconds_and_memory(worker: Worker) -> None:
    """The end carries wall time and peak memory of that job."""
    ended = worker.job("say", "x").run_in_worker(worker.socket)
    assert 0 < ended.seconds < 10
    assert 5 < ended.peak_rss_mb < 500


def test_grandchildren_end_with_their_job(worker: Worker, tmp_path: Path) -> None:
    """What a job leaves behind is ended, in its process group or out of it, and holds the job's end up not at all."""
    code, _, _ = worker.run("grandchildren", str(tmp_path / "pids"))
    near, far = map(int, (tmp_path / "pids").read_text().split())
    assert code == 0
    eventually(lambda: not is_running(near) and not is_running(far), "both grandchildren are gone")


@pytest.mark.parametrize(("job", "number"), [("wait", signal.SIGTERM), ("stubborn", signal.SIGKILL)])
def test_cancel_ends_the_job(worker: Worker, tmp_path: Path, job: str, number: int) -> None:
    """A cancelled job gets SIGTERM, and SIGKILL when it ignores that."""
    execution = worker.job(job, str(tmp_path / "pid"))
    thread = threading.Thread(target=lambda: (_pid_in(tmp_path / "pid"), execution.cancel.set()))
    thread.start()
    ended = execution.run_in_worker(worker.socket)
    thread.join()
    assert ended.signal == number
    assert not is_running(_pid_in(tmp_path / "pid"))


def test_job_ends_when_its_client_is_gone(worker: Worker, tmp_path: Path) -> None:
    """A client that is killed takes its job with it."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(worker.socket))
        run = protocol.Run(argv=("wait", str(tmp_path / "pid")), env={}, cwd=str(tmp_path))
        client.sendall(protocol.encode(run))
        pid = _pid_in(tmp_path / "pid")
    eventually(lambda: not is_running(pid), "the job is gone")
    assert worker.run("say", "next")[0] == 0


def test_third_job_waits_for_a_slot_and_is_told(worker: Worker, tmp_path: Path) -> None:
    """With both slots taken a job is queued, its client hears so, and it runs when a slot is free."""
    blockers = [worker.job("wait", str(tmp_path / f"pid{n}")) for n in range(2)]
    threads = [threading.Thread(target=job.run_in_worker, args=(worker.socket,)) for job in blockers]
    for thread in threads:
        thread.start()
    for n in range(2):
        _pid_in(tmp_path / f"pid{n}")
    lines: list[str] = []
    third = threading.Thread(target=worker.job("say", "third", lines=lines).run_in_worker, args=(worker.socket,))
    third.start()
    eventually(lambda: ping(worker.socket, 5).queued == 1 and lines, "the third job is queued")
    blockers[0].cancel.set()
    third.join(10)
    blockers[1].cancel.set()
    for thread in threads:
        thread.join(10)
    assert "busy" in lines[0]
    assert lines[1:] == ["third"]


def test_lost_server_is_reported_and_takes_its_job_along(worker: Worker, tmp_path: Path) -> None:
    """Killing the server fails the running node as retryable, and no half-run node goes on writing."""
    threading.Thread(target=lambda: (_pid_in(tmp_path / "pid"), worker.process.kill())).start()
    with pytest.raises(WorkerLostError) as lost:
        worker.job("wait", str(tmp_path / "pid")).run(worker.socket)
    assert lost.value.retryable
    pid = _pid_in(tmp_path / "pid")
    eventually(lambda: not is_running(pid), "the job is gone")


def test_sigterm_ends_jobs_and_removes_the_socket(worker: Worker, tmp_path: Path) -> None:
    """A stopped server leaves neither a job nor a socket, and exits 0."""
    threading.Thread(target=lambda: (_pid_in(tmp_path / "pid"), worker.process.terminate())).start()
    ended = worker.job("stubborn", str(tmp_path / "pid")).run_in_worker(worker.socket)
    assert ended.signal == signal.SIGKILL
    assert worker.process.wait(10) == 0
    assert not worker.socket.exists()


def test_socket_is_private(worker: Worker) -> None:
    """Whoever may connect may run code as this user, so nobody else may."""
    assert stat.S_IMODE(worker.socket.stat().st_mode) == 0o600


def test_recycle_after_jobs_refuses_nobody(make_worker: object) -> None:
    """With a life of one job, every job meets a fresh server, and no connection is refused meanwhile."""
    worker: Worker = make_worker("--recycle-jobs", "1")  # type: ignore[operator]
    for _ in range(5):
        assert worker.run("say", "hello") == (0, None, ["hello"])
    eventually(lambda: worker.log.read_text().count("Starting afresh: 1 jobs were run") == 5, "five recycles")
    assert ping(worker.socket, 5).pid == worker.process.pid


def test_changed_source_is_taken_before_the_next_job(worker: Worker) -> None:
    """Edited code is what the next job runs: the server starts afresh when a watched file changed."""
    assert worker.run("mark")[2] == ["first"]
    source = worker.folder / "tiny_jobs.py"
    source.write_text(source.read_text().replace('"first"', '"second"'))
    assert worker.run("mark")[2] == ["second"]


def test_other_protocol_version_is_refused(worker: Worker) -> None:
    """A client of another version is told so, and nothing is run."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(worker.socket))
        client.sendall(b'{"protocol": 99, "kind": "run"}\n')
        reply = protocol.decode(client.makefile("rb").readline())
    assert isinstance(reply, protocol.Refused)
    assert "protocol 99" in reply.reason


def test_stale_socket_is_taken_over(make_worker: object, tmp_path: Path) -> None:
    """A socket file that a killed server left behind does not stop the next."""
    first: Worker = make_worker()  # type: ignore[operator]
    first.process.kill()
    first.process.wait()
    assert first.socket.exists()
    assert make_worker().run("say", "again")[0] == 0  # type: ignore[operator]


def test_absent_server_is_no_worker(tmp_path: Path) -> None:
    """Without a socket nothing runs, and the caller may fall back."""
    with pytest.raises(NoWorkerError):
        ping(tmp_path / "none.sock", 1)


def test_line_buffer_joins_and_cuts() -> None:
    """Lines are put together over reads, and cut at the limit."""
    lines = protocol.LineBuffer(4)
    assert lines.feed(b"ab") == []
    assert lines.feed(b"c\n\nabcdefgh") == [b"abc", b"", b"abcd", b"efgh"]
    assert lines.feed(b"x") == []
    assert lines.rest() == [b"x"]
    assert lines.rest() == []
    assert os.linesep == "\n"


def test_output_and_end_in_one_moment_are_both_taken(worker: Worker) -> None:
    """A job whose last line and end arrive together loses neither, and the server goes on, however often it happens."""
    for number in range(80):
        assert worker.run("say", str(number)) == (0, None, [str(number)])
    assert ping(worker.socket, 5).pid == worker.process.pid
