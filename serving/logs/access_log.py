"""The access log: a JSON line a request, in files of a bounded size.

::

    logs/
      access-<pid>.jsonl      what this worker writes now
      access-<pid>.jsonl.1    what it wrote before; the highest number is the oldest
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from serving.logs.background import Background, remove_oldest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ct.home import Home

FILE_BYTES = 20 * 1024 * 1024
FILES = 5
ALL_BYTES = 500 * 1024 * 1024
"""What the files of all workers may take, those of ended ones included."""
EVERY_S = 0.5
LIMIT_LINES = 50_000
"""Lines that may wait: five seconds at 10,000 requests a second."""
PART_LINES = 4096
"""Written at once."""
CHUNK_LINES = 64
"""Formatted in a fifth of a millisecond."""
SHOWN_CHARACTERS = 1024
"""A path or an id that a client sent is cut here."""

_Line = tuple[Any, ...]


class AccessLog:
    """One worker's access log. `add` is for the event loop; a thread formats and writes, at least every half second.

    Args:
        home: lines go to its logs/.
        enabled: when False, nothing is kept, written or started.
        file_bytes: size at which a file is closed and the next begun.
        limit: lines that may wait.
    """

    def __init__(
        self,
        home: Home,
        *,
        enabled: bool,
        file_bytes: int = FILE_BYTES,
        limit: int = LIMIT_LINES,
        every_s: float = EVERY_S,
    ) -> None:
        self._enabled = enabled
        self._file = _RotatedFile(home.logs, file_bytes)
        self._background: Background[_Line] = Background(
            "access log", self._write, split=_in_parts, size=_one, limit=limit, wake_at=limit // 4, every_s=every_s
        )
        self._put = self._background.put

    @property
    def written(self) -> int:
        """Lines on disk."""
        return self._background.written

    @property
    def dropped(self) -> int:
        """Lines lost because the buffer was full or the disk did not take them."""
        return self._background.dropped

    def start(self) -> None:
        """Begin to write."""
        if self._enabled:
            self._background.start()

    def stop(self) -> None:
        """Write what is buffered and close the file. Safe to call twice."""
        self._background.stop()

    def add(  # noqa: D417  the others' names say all
        self,
        at: float,
        request_id: str,
        trace_id: str | None,
        client: str | None,
        method: str,
        path: str,
        status: int,
        model: str | None,
        version: int | None,
        variant: str | None,
        protocol: str | None,
        rows: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
        token: str | None,
        /,
    ) -> None:
        """Note an answered request. Never blocks, never does I/O.

        Positions only: 0.3 us, where keywords would make it 0.9.

        Args:
            at: when it arrived, Unix seconds.
            seconds: until its answer was sent.
            token: the token's name; never the token.
        """
        if self._enabled:
            self._put(
                (
                    at,
                    request_id,
                    trace_id,
                    client,
                    method,
                    path,
                    status,
                    model,
                    version,
                    variant,
                    protocol,
                    rows,
                    bytes_in,
                    bytes_out,
                    seconds,
                    token,
                )
            )

    def _write(self, lines: list[_Line]) -> None:
        chunks = (lines[start : start + CHUNK_LINES] for start in range(0, len(lines), CHUNK_LINES))
        self._file.append(b"".join([b"".join(map(_format, chunk)) for chunk in self._background.paced(chunks)]))


class _RotatedFile:
    """Appends whole lines to access-<pid>.jsonl."""

    def __init__(self, folder: Path, file_bytes: int) -> None:
        self._folder = folder
        self._file_bytes = file_bytes

    def append(self, text: bytes) -> None:
        """Write whole lines.

        Opened and closed each time: it costs 20 us a part, and nothing breaks when someone moves the file away.

        Raises:
            OSError: the disk is full or the folder cannot be written; no part of `text` is in the file then.
        """
        path = self._folder / f"access-{os.getpid()}.jsonl"
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            size = os.fstat(handle).st_size
            try:
                _write_all(handle, text)
            except OSError:
                os.ftruncate(handle, size)  # half a line would spoil the next one too
                raise
        finally:
            os.close(handle)
        if size + len(text) >= self._file_bytes:
            self._rotate(path)
        elif size == 0:
            remove_oldest(self._folder.glob("access-*.jsonl*"), ALL_BYTES)

    def _rotate(self, path: Path) -> None:
        for number in range(FILES - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            newer = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
            if newer.exists():
                newer.replace(older)


def _write_all(handle: int, text: bytes) -> None:
    left = memoryview(text)
    while left:
        left = left[os.write(handle, left) :]


def _format(line: _Line) -> bytes:
    """Unpacked by hand: in a loop over names it takes twice as long, and the event loop waits for it."""
    (at, request_id, trace_id, client, method, path, status, model, version, variant, protocol, *rest) = line
    rows, bytes_in, bytes_out, seconds, token = rest
    values = {
        "time": f"{_second(int(at))}.{int(at * 1000) % 1000:03}Z",
        "request_id": request_id[:SHOWN_CHARACTERS],
        "trace_id": trace_id,
        "client": client,
        "method": method,
        "path": path[:SHOWN_CHARACTERS],
        "status": status,
        "model": model,
        "version": version,
        "variant": variant,
        "protocol": protocol,
        "rows": rows,
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "ms": round(seconds * 1000, 3),
        "token": token,
    }
    try:
        text: bytes = orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a lone surrogate, which is no UTF-8
        shown = {
            name: value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
            for name, value in values.items()
        }
        text = orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE)
    return text


@lru_cache(maxsize=16)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def _in_parts(lines: list[_Line]) -> Iterator[list[_Line]]:
    return (lines[start : start + PART_LINES] for start in range(0, len(lines), PART_LINES))


def _one(_: _Line) -> int:
    return 1
