"""When a process began: with its pid it says whether a process is still the one that wrote a file."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

STAT_STARTTIME = 19
"""Index of `starttime` among the fields of /proc/<pid>/stat that follow the command, proc(5)."""
STAT_STATE = 0


def started_at(pid: int) -> datetime | None:
    """When the process with this pid began, in UTC; None when there is none, or only its remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[STAT_STATE] in ("Z", "X"):
        return None
    seconds = int(fields[STAT_STARTTIME]) / os.sysconf("SC_CLK_TCK")
    return datetime.fromtimestamp(_booted_at_s() + seconds, tz=timezone.utc)


def _booted_at_s() -> int:
    lines = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("btime "))
