"""What supervisord starts for each program: `python -m ct.daemon.launch NAME`, which becomes the program by exec.

It reads the command and environment from `run/programs.json`, because supervisord's own configuration cannot hold every
value (quotes, `%`, line ends), and ends what an earlier life of the same program left behind: a scheduler that was killed
leaves workers that would run tasks a second time. Standard library only, so it costs 30 ms.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time
from pathlib import Path

from ct.daemon import sweep

PROGRAMS_FILE = "programs.json"
STARTS_FOLDER = "starts"


def main() -> None:
    """Become the program that the command line names. Returns never."""
    name = sys.argv[1]
    run = Path(os.environ["CT_HOME"]) / "run"
    program = json.loads((run / PROGRAMS_FILE).read_text(encoding="utf-8"))[name]
    for swept in sweep.sweep({sweep.INSTANCE: os.environ[sweep.INSTANCE], sweep.PROGRAM: name}):
        with contextlib.suppress(BrokenPipeError):  # supervisord died meanwhile; the sentinel must start all the same
            print(f"ct: ended {swept.pid} ({swept.command}), left by an earlier {name}", flush=True)  # noqa: T201
    if program["waits_for"]:
        with Path(program["waits_for"]).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)  # held by `ct up` while it prepares what the program needs
    with (run / STARTS_FOLDER / name).open("a", encoding="ascii") as starts:
        starts.write(f"{time.time():.3f} {os.getpid()}\n")
    os.chdir(program["cwd"])
    command = program["command"]
    os.execve(command[0], command, os.environ | program["env"] | {sweep.PROGRAM: name})  # noqa: S606  no shell


if __name__ == "__main__":
    main()
