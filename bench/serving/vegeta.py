"""Steady load: vegeta sends at a constant rate whether or not answers come, so waiting counts in its latencies."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.serving.steady import WARM_UP_S, Steady, summary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

END_S = 20.0
"""For the requests in flight when an attack is told to end."""
CONNECTIONS = 64
"""Kept open. A request that finds none free waits, and the waiting counts as the server's time."""
LEAN = {"GOMAXPROCS": "1", "GOGC": "1000"}
"""The generator shares the cores with the server: half the processor time a request, measured on 2 cores."""


@dataclass(frozen=True)
class Vegeta:
    """The program, and where it keeps its files."""

    program: str
    folder: Path

    def attack(self, url: str, bodies: Path, *, rate: int, seconds: float) -> Steady:
        """Send `rate` requests a second for the warm-up and then for a time.

        Raises:
            BenchError: vegeta itself failed.
        """
        with self._started(url, bodies, rate, f"{WARM_UP_S + seconds:g}s") as process:
            process.wait(WARM_UP_S + seconds + END_S)
        return self._report(process)

    @contextmanager
    def attacking(self, url: str, bodies: Path, *, rate: int) -> Iterator[Attack]:
        """Send `rate` requests a second while the block runs; then `Attack.report` has the result.

        Raises:
            BenchError: vegeta itself failed.
        """
        with self._started(url, bodies, rate, "0") as process:
            attack = Attack(process)
            yield attack
            process.send_signal(signal.SIGINT)  # it takes no new request, and waits for those in flight
            process.wait(END_S)
        attack.result = self._report(process)

    @contextmanager
    def _started(self, url: str, bodies: Path, rate: int, duration: str) -> Iterator[subprocess.Popen[bytes]]:
        targets = self.folder / "targets.json"
        targets.write_text("\n".join(_targets(url, bodies.read_text(encoding="utf-8").splitlines())), encoding="utf-8")
        command = [
            *(
                self.program,
                "attack",
                "-format=json",
                f"-targets={targets}",
                f"-rate={rate}/s",
                f"-duration={duration}",
            ),
            *(f"-workers={CONNECTIONS}", f"-connections={CONNECTIONS}", f"-max-connections={CONNECTIONS}"),
            *("-http2=false", "-timeout=10s", "-max-body=0", f"-output={self._results}"),
        ]
        with (self.folder / "vegeta.log").open("wb") as log:
            process = subprocess.Popen(command, env={**os.environ, **LEAN}, stdout=log, stderr=log)
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()

    def _report(self, process: subprocess.Popen[bytes]) -> Steady:
        if process.returncode != 0:
            said = (self.folder / "vegeta.log").read_text(encoding="utf-8", errors="replace").strip()
            raise BenchError(f"vegeta exited with {process.returncode}: {said[-500:]}")
        return summary(self._run("encode", "-to=csv", str(self._results)).splitlines())

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"`vegeta {' '.join(arguments)}` exited with {done.returncode}: {done.stderr[-500:]}")
        return done.stdout

    @property
    def _results(self) -> Path:
        return self.folder / "vegeta.bin"


@dataclass
class Attack:
    """An attack under way."""

    process: subprocess.Popen[bytes]
    result: Steady | None = None

    def lasts(self, seconds: float) -> None:
        """Let it go on for a while.

        Raises:
            BenchError: it has ended.
        """
        try:
            self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return
        raise BenchError(f"vegeta ended by itself, with {self.process.returncode}")

    def report(self) -> Steady:
        """What it saw; after its block."""
        if self.result is None:
            raise ValueError("the attack has not ended")
        return self.result


def _targets(url: str, bodies: Sequence[str]) -> Iterator[str]:
    for body in bodies:
        target = {
            "method": "POST",
            "url": url,
            "header": {"Content-Type": ["application/json"]},
            "body": base64.b64encode(body.encode()).decode(),
        }
        yield json.dumps(target)
