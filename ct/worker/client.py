"""Run one node of a pipeline from the control plane, and read what it left behind."""

from __future__ import annotations

import signal
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ct.contracts import NodeResult
from ct.errors import NodeFailedError, WorkerLostError
from ct.home import write_atomically
from ct.settings import Settings
from ct.worker.environment import training_environment
from ct.worker.execution import CancelSignal, Execution

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct.contracts import NodeJob
    from ct.home import Home
    from ct.worker.protocol import Ended

ENTRY = "ct.training.launch:main"
SOCKET = "worker"
TAIL_LINES = 20
"""Lines of output that an error carries, so that the reason is seen without opening a log."""


class NodeRun:
    """One attempt at one node. Use it once.

    Args:
        job: What to run.
        job_path: Where the job is written for the node to read: `<run folder>/<node_id>.job.json`. The run's folder is
            also the node's working directory.
        home: CT_HOME.
        on_line: Called with each line of the node's output, in the thread that calls `execute`.
    """

    def __init__(self, job: NodeJob, job_path: Path, home: Home, on_line: Callable[[str], None]) -> None:
        self._job = job
        self._job_path = job_path
        self._home = home
        self._on_line = on_line
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._cancel = CancelSignal()

    def cancel(self) -> None:
        """End the node's process, with SIGTERM and, after a grace, SIGKILL; `execute` then raises.

        Safe from another thread and from a signal handler, before, during and after `execute`, and more than once.
        """
        self._cancel.set()

    def execute(self) -> NodeResult:
        """Run the node to its end, in the warm worker or, with a warning line, in a process of its own.

        Returns:
            What the node wrote, also when it is not ok: whether a retry can help stands in it.

        Raises:
            NodeFailedError: the node's process died without a result, or was cancelled.
            WorkerLostError: the warm worker went away while the node ran.
            PlaneMissingError: there is no warm worker and no training plane.
        """
        result_path = Path(self._job.request_path).parent / self._job.result_name
        result_path.unlink(missing_ok=True)  # an earlier attempt's must not pass for this one's
        write_atomically(self._job_path, self._job.model_dump_json())
        execution = Execution(
            entry=ENTRY,
            argv=(str(self._job_path),),
            env=training_environment(self._home, Settings.load(self._home)),
            cwd=self._job_path.parent,
            on_line=self._take_line,
            cancel=self._cancel,
        )
        try:
            ended = execution.run(self._home.socket(SOCKET))
        except WorkerLostError:
            result = _read(result_path)
            if result is not None and result.ok:
                return result
            raise
        finally:
            self._cancel.close()
        result = _read(result_path)
        if result is not None and (result.ok or not self._cancel.is_set):
            return result
        raise self._failure(ended)

    def _take_line(self, line: str) -> None:
        self._tail.append(line)
        self._on_line(line)

    def _failure(self, ended: Ended) -> NodeFailedError:
        run_id = Path(self._job.request_path).parent.name
        node = f"Node {self._job.node_id} of run {run_id}"
        facts = {
            "run_id": run_id,
            "node_id": self._job.node_id,
            "attempt": self._job.attempt,
            "exit_code": ended.exit_code,
            "signal": ended.signal,
            "seconds": ended.seconds,
            "peak_rss_mb": ended.peak_rss_mb,
            "cancelled": self._cancel.is_set,
            "last_lines": list(self._tail),
        }
        if self._cancel.is_set:
            return NodeFailedError(f"{node} was cancelled after {ended.seconds:.1f} s; its process is gone.", **facts)
        first = (
            f"{node} died without a result: {_cause(ended)} after {ended.seconds:.1f} s, peak memory "
            f"{ended.peak_rss_mb:.0f} MB. Clear the task in Airflow to try again. Its last lines:"
        )
        return NodeFailedError("\n".join([first, *(f"  {line}" for line in self._tail)]), **facts)


def _read(result_path: Path) -> NodeResult | None:
    """The node's result, or None when it did not get so far as to write a whole one."""
    try:
        return NodeResult.model_validate_json(result_path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None


def _cause(ended: Ended) -> str:
    if ended.signal is None:
        return f"exit code {ended.exit_code}"
    name = signal.Signals(ended.signal).name if ended.signal in set(signal.Signals) else f"signal {ended.signal}"
    if ended.signal == signal.SIGKILL:
        return f"{name}, most likely because the machine ran out of memory,"
    return name
