"""When the server starts afresh: after many jobs, when it grew, or when the code it has imported changed on disk."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True)
class RecycleLimits:
    """What one life of the server may see."""

    jobs: int = 500
    growth_mb: float = 300.0
    """Over what the server held right after its preload: the server runs nothing itself, so any growth is a leak."""


@dataclass(frozen=True)
class Preloaded:
    """What the server looked like right after its preload."""

    rss_mb: float
    sources: dict[str, int]
    """Path of each watched source file -> its mtime in ns."""

    @classmethod
    def now(cls, packages: frozenset[str]) -> Preloaded:
        """Take stock of this process; `packages` are the top-level packages whose source files are watched."""
        paths = {
            module.__file__
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] in packages and getattr(module, "__file__", None)
        }
        return cls(rss_mb=rss_mb(), sources={path: _mtime_ns(path) for path in paths if path})

    def reason_to_recycle(self, limits: RecycleLimits, jobs_done: int) -> str | None:
        """Why the server should start afresh, or None."""
        if jobs_done >= limits.jobs:
            return f"{jobs_done} jobs were run"
        growth_mb = rss_mb() - self.rss_mb
        if growth_mb > limits.growth_mb:
            return f"memory grew by {growth_mb:.0f} MB"
        changed = [path for path, mtime_ns in self.sources.items() if _mtime_ns(path) != mtime_ns]
        return f"{changed[0]} changed" if changed else None


def rss_mb() -> float:
    """The resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def _mtime_ns(path: str) -> int:
    """0 for a file that is gone, which counts as changed."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0
