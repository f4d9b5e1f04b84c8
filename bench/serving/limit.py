"""The model's own limit, measured from here: asks bench.serving.direct, which runs in the serving plane."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.serving.process import clean_environment
from bench.serving.servers import QUIET
from ct.planes import PROJECT, Plane, python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.serving.model import Trained

ROWS_A_CALL = 16
"""What 16 connections of one row each allow in one batch."""


@dataclass(frozen=True)
class Calls:
    """The signature called back to back."""

    rows_a_second: float
    p50_ms: float
    """Of one call."""


class Direct:
    """The process that holds the model; idle until it is asked."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def call(self, *, rows: int, seconds: float) -> Calls:
        """Call the signature for a time.

        Raises:
            BenchError: the process has ended.
        """
        assert self._process.stdin is not None  # noqa: S101  it is piped
        self._process.stdin.write(f"{rows} {seconds}\n")
        self._process.stdin.flush()
        return Calls(**self.answer())

    def answer(self) -> dict[str, Any]:
        """The next line that it says."""
        assert self._process.stdout is not None  # noqa: S101  it is piped
        line = self._process.stdout.readline()
        if not line:
            tail = self._log.read_text(encoding="utf-8", errors="replace")[-1000:]
            raise BenchError(f"the process that calls the model itself ended:\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def direct(model: Trained, folder: Path) -> Iterator[Direct]:
    """The model in a process of the serving plane, ready to be called; the process ends with the block."""
    examples = model.saved_model().with_name("examples.json")
    command = [str(python(Plane.SERVING)), "-m", "bench.serving.direct", str(model.saved_model()), str(examples)]
    log = folder / "direct.log"
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**clean_environment(), **QUIET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            calls = Direct(process, log)
            calls.answer()
            yield calls
        finally:
            process.kill()
