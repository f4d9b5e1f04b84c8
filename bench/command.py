"""What every benchmark's command does around its measurement: alone, ended cleanly, its result printed and written."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click
import httpx
import psutil

from bench.errors import BenchError
from bench.serving.places import BENCH
from ct.errors import CTError
from ct.home import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Say = Callable[[str], None]

BUSY_LOOK_S, BUSY_PERCENT = 1.0, 10.0
"""How long the machine is looked at beforehand, and the use of its processors above which it is called busy."""


def run(
    measure: Callable[[Say], Mapping[str, Any]],
    print_tables: Callable[[Mapping[str, Any]], None],
    out: Path,
    logs: Path,
) -> int:
    """Do all of it; 0 when every measurement was made, whatever it says.

    Args:
        measure: gives the result; told how to say what it does.
        print_tables: prints a result.
        out: where it is written, as JSON.
        logs: named when the benchmark stops.
    """
    began = time.monotonic()
    BENCH.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, _end)

    def say(line: str) -> None:
        click.echo(f"[{time.monotonic() - began:4.0f} s] {line}")

    try:
        with _alone():
            result = measure(say)
    except (BenchError, CTError, httpx.HTTPError, subprocess.TimeoutExpired) as error:
        click.echo(f"The benchmark stopped: {error}\nLogs are in {logs}.", err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("The benchmark was interrupted; what it had started is ended, and no result was written.", err=True)
        return 130
    write_atomically(out, json.dumps(result, indent=2) + "\n")
    print_tables(result)
    click.echo(f"written to {out}")
    return 0


def busy_percent(say: Say) -> float:
    """Use of the processors by others, said where it is much."""
    percent = psutil.cpu_percent(BUSY_LOOK_S)
    if percent > BUSY_PERCENT:
        say(f"other processes use {percent:.0f} % of this machine: what is measured now is worse than it could be")
    return percent


@contextmanager
def _alone() -> Iterator[None]:
    """One benchmark of a checkout at a time, this one or another.

    Raises:
        BenchError: another one runs.
    """
    with (BENCH / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BenchError("another one runs in this checkout") from error
        yield


def _end(_number: int, _frame: object) -> NoReturn:
    """SIGTERM goes the way of Ctrl-C: what was started is ended."""
    raise KeyboardInterrupt
