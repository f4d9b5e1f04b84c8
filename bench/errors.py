"""Why a benchmark stops."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark cannot go on; the message says what is missing or which log to read. No result was written."""
