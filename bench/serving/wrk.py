"""Peak load: wrk with a fixed number of connections, each of which sends its next request when it has its answer."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT_S = 10
"""A request without an answer for so long has failed."""


@dataclass(frozen=True)
class Peak:
    """What one run of wrk saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    refused: int
    """Answers with a status of 400 or more."""
    socket_errors: int
    timeouts: int

    @property
    def failures(self) -> int:
        return self.refused + self.socket_errors + self.timeouts

    @property
    def a_second(self) -> float:
        """Requests a second that were answered with success."""
        return (self.requests - self.refused) / self.seconds


def peak(wrk: str, url: str, bodies: Path, *, connections: int, seconds: int) -> Peak:
    """Send as fast as answers come.

    Args:
        wrk: the program.
        url: where to POST.
        bodies: a file with a JSON body a line, sent in turn.
        connections: kept open throughout; one thread serves them all.
        seconds: how long.

    Raises:
        BenchError: wrk itself failed.
    """
    command = [
        *(wrk, "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
        *("--timeout", f"{TIMEOUT_S}s", "--script", str(SCRIPT), url, "--", str(bodies)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 6 * TIMEOUT_S)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise BenchError(f"`{' '.join(command)}` exited with {done.returncode}: {done.stdout}{done.stderr}")
    return Peak(**json.loads(lines[-1]))
