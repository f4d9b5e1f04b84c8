"""Starts the serving plane's process that lets the previous version predict what the new one answered.

It takes processor time only when nobody else wants it, and the monitor does not wait for it. Killed at any moment it leaves no
half file, and the next one does what it did not.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

from ct.monitor.compared import count_pairs
from ct.monitor.logged import MOST_ROWS, last_written
from ct.planes import PROJECT, Plane, python

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ct.home import Home
    from ct.monitor.records import Records
    from ct.monitor.watch import Watch

AFTER_FAILURE = timedelta(minutes=10)
SHOWN_CHARACTERS = 500


class Pairing:
    """At most one such process of a model's champion, and one of its canary.

    Args:
        home: where the prediction log is.
        model: whose rows.
        records: where the pairs go.
        every: between the end of one and the start of the next; a start imports TensorFlow, some seconds of a processor.
        step_back: called with the process's pid as it starts.
    """

    def __init__(
        self, home: Home, model: str, records: Records, *, every: timedelta, step_back: Callable[[int], None]
    ) -> None:
        self._home = home
        self._model = model
        self._records = records
        self._every = every
        self._step_back = step_back
        self._process: subprocess.Popen[bytes] | None = None
        self._next: datetime | None = None
        self._began_with: tuple[str, float] | None = None
        self._exhausted: tuple[str, float] | None = None
        """Watch and state of the log in which there was nothing left to pair: a quiet model costs no process."""
        self._of: str | None = None
        self.problem: str | None = None
        """Of the watch that is on."""

    def go_on(self, watch: Watch, now: datetime) -> None:
        """Note the end of a process, and start one when it is due.

        Raises:
            PlaneMissingError: the serving plane is not installed.
        """
        if watch.id != self._of:
            self._of, self.problem = watch.id, None
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._note_end(self._process, now)
            self._process = None
        if watch.previous is None or (self._next is not None and now < self._next):
            return
        newest = last_written(self._home, self._model)
        if (watch.id, newest) != self._exhausted and newest and count_pairs(self._records.pairs(watch)) < MOST_ROWS:
            self._began_with = (watch.id, newest)
            self._process = self._start(watch, watch.previous)

    def stop(self) -> None:
        """End the process, if one runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._of = self.problem = None

    def _start(self, watch: Watch, previous: int) -> subprocess.Popen[bytes]:
        folder = self._records.folder
        folder.mkdir(parents=True, exist_ok=True)
        command = [str(python(Plane.SERVING)), "-m", "serving.replay.pairs", self._model]
        command += ["--new", str(watch.new), "--previous", str(previous), "--since", watch.since.isoformat()]
        command += ["--variant", watch.variant, "--into", str(self._records.pairs(watch))]
        with (folder / "pairing.out").open("wb") as out, (folder / "pairing.err").open("wb") as err:
            process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env={
                    **os.environ,
                    "CT_HOME": str(self._home.root),
                    "TF_CPP_MIN_LOG_LEVEL": "3",
                    "CUDA_VISIBLE_DEVICES": "",
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self._step_back(process.pid)
        return process

    def _note_end(self, process: subprocess.Popen[bytes], now: datetime) -> None:
        self.problem = self._problem(process)
        self._next = now + (AFTER_FAILURE if process.returncode else self._every)

    def _problem(self, process: subprocess.Popen[bytes]) -> str | None:
        """Why there are no pairs, or fewer."""
        folder = self._records.folder
        try:
            told = json.loads((folder / "pairing.out").read_bytes().splitlines()[-1])
        except (OSError, IndexError, ValueError):
            said = (folder / "pairing.err").read_text(encoding="utf-8", errors="replace")[-SHOWN_CHARACTERS:]
            return f"the previous version's predictions are missing: the process ended with code {process.returncode}: {said}"
        if told.get("rows") == 0:
            self._exhausted = self._began_with
        if "error" in told:
            return f"the previous version's predictions are missing: {told['error']['message']}"
        if told["unfit"]:
            return f"{told['unfit']} logged rows lack features that the previous version takes, and are not compared"
        return None
