"""Tells people how runs of a pipeline ended, and that one waits for their answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from ct.contracts import Value
from ct.home import write_atomically
from ct.triggers.records import RunStatus
from ct.verdict_page.record import open_question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from ct.home import Home
    from ct.monitor.notify import Outbox
    from ct.monitor_config import MonitorConfig, News
    from ct.triggers.records import RunRecord

LOOKED_AT = 50
"""The newest runs of a pipeline. One that ended longer ago was told then, or nobody wanted to know."""
ASKED: News = "asked"


class Told(Value):
    """What has been told, or was there before anybody could be: `<run id>-<news>`."""

    keys: tuple[str, ...]


class RunNews:
    """The news of one pipeline's runs.

    Args:
        home: where the runs' folders are.
        runs: the newest runs, so many at most, newest first.
        folder: where it is noted what was told.
        outbox: where messages are put and sent from.
    """

    def __init__(self, home: Home, runs: Callable[[int], Sequence[RunRecord]], folder: Path, outbox: Outbox) -> None:
        self._home = home
        self._runs = runs
        self._path = folder / "told.json"
        self._outbox = outbox

    def look(self, config: MonitorConfig, now: datetime) -> None:
        """Tell what is new, and send what waits to be sent.

        What ended before the first look is not told. A message is put before that is noted: killed in between, it comes twice.

        Raises:
            CTError: the ledger or a run's question cannot be read.
        """
        found = {f"{run.run_id}-{news}": (news, run) for news, run in self._found()}
        noted = self._noted()
        told = {key for key, (news, _) in found.items() if news != ASKED} if noted is None else noted
        for key in found.keys() - told:
            news, run = found[key]
            if news in config.notify_runs:
                self._outbox.put(key, *_message(news, run), to=config.notify, now=now)
        if noted != found.keys():
            write_atomically(self._path, Told(keys=tuple(sorted(found))).model_dump_json())
        self._outbox.deliver(now)

    def _found(self) -> Iterator[tuple[News, RunRecord]]:
        for run in self._runs(LOOKED_AT):
            if run.status is not RunStatus.RUNNING:
                yield run.status.value, run
            elif open_question(self._home, run.run_id) is not None:
                yield ASKED, run

    def _noted(self) -> set[str] | None:
        """None before the first look; and when the file is damaged, which tells nothing twice."""
        try:
            return set(Told.model_validate_json(self._path.read_bytes()).keys)
        except (FileNotFoundError, ValidationError):
            return None


def _message(news: News, run: RunRecord) -> tuple[str, str]:
    """Title and text."""
    of = f"Run {run.run_id}, new spans: {', '.join(run.spans) or 'none'}."
    if news == ASKED:
        why = f"`ct why {run.pipeline} --run {run.run_id}` shows the verdict"
        look = f"{why}; `ct approve` or `ct reject {run.pipeline} --run {run.run_id} --reason ...` answers."
        return f"{run.pipeline}: a candidate waits for your answer", f"{of}\n{look}"
    version = "" if run.version is None else f" (version {run.version})"
    return f"{run.pipeline}: a run ended {news}{version}", f"{of}\n{run.message}\nSee `ct runs {run.pipeline}`."
