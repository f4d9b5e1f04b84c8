"""`python -m ct.training.launch <job.json>`: run one node of one run, and write what became of it.

The warm worker's forks call `main` with the same argument. The NodeResult is written in every case, last and atomically;
the exit code is 0 when it is ok.
"""

from __future__ import annotations

import logging
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from ct.contracts import NodeJob, NodeResult
from ct.errors import CTError
from ct.home import write_atomically
from ct.training.facts import Facts, collected
from ct.training.run import load_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.contracts import MadeWith

KB_A_MB = 1024
LONGEST_RECORD, MOST_LINES = 1500, 6
"""Characters and lines of a log record that are shown. TFX logs whole protobufs, hundreds of lines each."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node that the job file names; 0 when it succeeded."""
    (job_path,) = sys.argv[1:] if argv is None else argv
    job = NodeJob.model_validate_json(Path(job_path).read_text(encoding="utf-8"))
    started = time.monotonic()
    error: Exception | None = None
    made_with: MadeWith | None = None
    with collected() as facts:
        try:
            made_with = run_node(job)
        except Exception as raised:  # noqa: BLE001  TFX's, Beam's and the pipeline's own code may raise anything
            traceback.print_exc()
            error = raised
    result = _result(job, facts, error, made_with, seconds=time.monotonic() - started)
    write_atomically(Path(job.request_path).parent / job.result_name, result.model_dump_json(indent=2, fallback=str))
    return 0 if result.ok else 1


def run_node(job: NodeJob) -> MadeWith:
    """Run a node of a deployed pipeline. Doing it again replaces the outputs of the earlier attempt.

    Returns:
        What it ran with.

    Raises:
        Exception: what the node's code raised; CTError where it was on purpose.
    """
    from ct.training import preload  # noqa: PLC0415  these imports take seconds unless a warm worker did them
    from ct.training.node import launch_node  # noqa: PLC0415

    run = load_run(job.request_path)
    sys.path.insert(0, str(run.spec_dir / "code"))
    _log_to_stderr()
    preload.seed(run.request.seed)
    launch_node(run, job)
    return preload.MADE_WITH


def _result(
    job: NodeJob, facts: Facts, error: Exception | None, made_with: MadeWith | None, *, seconds: float
) -> NodeResult:
    peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KB_A_MB
    if error is None:
        message, values, retryable = facts.message, facts.values, False
    elif isinstance(error, CTError):
        message, values, retryable = error.message, {**facts.values, **error.facts}, error.retryable
    else:
        message, values, retryable = f"{job.node_id}: {type(error).__name__}: {error}", facts.values, True
    return NodeResult(
        node_id=job.node_id,
        ok=error is None,
        message=message,
        error_type=None if error is None else type(error).__name__,
        retryable=retryable,
        seconds=seconds,
        peak_rss_mb=peak_rss_mb,
        facts=values,
        made_with=made_with,
    )


class _Shortened(logging.Formatter):
    """One record, cut where a library logs a whole protobuf."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        shown = "\n".join(text.split("\n", MOST_LINES)[:MOST_LINES])[:LONGEST_RECORD]
        if shown == text or record.exc_info:
            return text
        return f"{shown} ... ({len(text) - len(shown):,} more characters)"


def _log_to_stderr() -> None:
    """Send TFX's and absl's records to standard error, which is the task's log."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Shortened("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    absl = logging.getLogger("absl")
    absl.handlers[:] = []
    absl.propagate = True
    absl.setLevel(logging.INFO)
    logging.getLogger("apache_beam").setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
