"""Wait until processes that were started do their work, or say why one does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ct.daemon import health
from ct.daemon.status import starts
from ct.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.daemon.programs import Program
    from ct.home import Home

HEALTHY_TIMEOUT_S = 240.0
"""From a cold disk cache on two busy cores; 40 s is usual."""
POLL_S = 0.25
ASK_TIMEOUT_S = 1.0
"""Shorter than for `ct status`: a process that still imports must not hold up the news of another."""
STARTS_MAX = 3
"""A program that died so often before it was healthy once will not become so."""
TAIL_LINES = 20

Tell = Callable[[str, str], None]
"""Told the name of a process and what it has reached."""


def wait_healthy(home: Home, wanted: Sequence[Program], tell: Tell, *, timeout_s: float = HEALTHY_TIMEOUT_S) -> None:
    """Wait until every program is healthy.

    Raises:
        DaemonError: one keeps dying, or is not healthy in time; with its last lines and its log's path.
    """
    until_s = time.monotonic() + timeout_s
    waiting = {program.name: program for program in wanted}
    while waiting:
        asked_s = time.monotonic()
        found = health.problems(tuple(waiting.values()), ASK_TIMEOUT_S)
        for name, problem in found.items():
            program = waiting[name]
            if problem is None:
                del waiting[name]
                tell(name, "healthy")
            elif starts(home, name) >= STARTS_MAX:
                raise _failure(program, f"keeps dying: it was started {starts(home, name)} times")
            elif time.monotonic() > until_s:
                raise _failure(program, f"was not healthy within {timeout_s:.0f} s: {problem}")
        # The processes send no word when they are ready; asking is the only way.
        threading.Event().wait(max(0.0, POLL_S - (time.monotonic() - asked_s)))


def _failure(program: Program, what: str) -> DaemonError:
    try:
        lines = program.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    except FileNotFoundError:
        lines = []
    return DaemonError(
        "\n".join(
            [
                f"{program.name} {what}. Everything was stopped again. Its log, {program.log}, ends with:",
                *(f"  {line}" for line in lines or ["(nothing)"]),
            ]
        ),
        program=program.name,
        log=str(program.log),
    )
