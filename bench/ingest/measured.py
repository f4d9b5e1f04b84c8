"""What one process of the training plane says of itself: seconds and memory of one piece of work, without its imports."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_HIGH_WATER_MARK = "5"
"""Written to clear_refs, it makes VmHWM what is resident now (proc(5))."""
MB_A_KIB = 1024 / 1e6


def measure(work: Callable[[], None], count_rows: Callable[[], int]) -> None:
    """Print one line of JSON: rows, seconds, processor_s, imports_mb, peak_mb.

    Args:
        work: what is measured.
        count_rows: how many rows TensorFlow reads of what was written; not measured.
    """
    CLEAR.write_text(RESET_HIGH_WATER_MARK, encoding="ascii")
    imports_mb = _memory_mb("VmRSS")
    began, began_processor = time.monotonic(), time.process_time()
    work()
    seconds, processor_s = time.monotonic() - began, time.process_time() - began_processor
    peak_mb = _memory_mb("VmHWM") - imports_mb
    told = {"seconds": seconds, "processor_s": processor_s, "imports_mb": imports_mb, "peak_mb": peak_mb}
    print(json.dumps({"rows": count_rows(), **told}), flush=True)  # noqa: T201  the parent reads it


def _memory_mb(name: str) -> float:
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * MB_A_KIB
