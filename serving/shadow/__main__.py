"""`python -m serving.shadow NAME VERSION`: predict the lines that a serving worker writes to the standard input, until it ends.

serving.plane.mirror starts it, and says what a line is. Its numbers are among the worker's on `/metrics`, and what it predicted
is in the prediction log under the ids of the requests.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from ct.errors import CTError
from ct.home import Home
from ct.lifetime import compute_when_idle
from ct.rollout import ModelStore
from ct.settings import Settings
from serving.logs.prediction_log import PredictionLog
from serving.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG = logging.getLogger("ct.serving")
READ_BYTES = 1 << 16
"""What a pipe holds on Linux."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read to the end; 0, or 1 if the version does not load."""
    parser = argparse.ArgumentParser(prog="python -m serving.shadow", description="Predict what a worker mirrors.")
    parser.add_argument("name")
    parser.add_argument("version", type=int)
    asked = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s shadow: %(message)s")
    # The worker ends this process, by closing its input, when the worker's own requests have been answered.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    compute_when_idle()
    home = Home.from_environment()
    log = PredictionLog(home, share=1, budget_mb=Settings.load(home).prediction_log_mb)
    log.start()
    try:
        _shadow(home, asked.name, asked.version, log)
    except CTError as error:
        LOG.error("%s", error.message)  # noqa: TRY400  the message says all
        return 1
    finally:
        log.stop()
    return 0


def _shadow(home: Home, name: str, version: int, log: PredictionLog) -> None:
    from serving.plane.version import limit_threads, load_version  # noqa: PLC0415  TensorFlow, at this process's priority
    from serving.shadow.candidate import Candidate  # noqa: PLC0415

    limit_threads(os.cpu_count() or 1)
    candidate = Candidate(load_version(ModelStore(home, name), version), Metrics(), log)
    unfinished = b""
    while part := os.read(sys.stdin.fileno(), READ_BYTES):
        *lines, unfinished = (unfinished + part).split(b"\n")
        candidate.take(lines)


if __name__ == "__main__":
    sys.exit(main())
