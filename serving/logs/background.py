"""What serving's two logs share: a bounded buffer that the event loop fills, a thread that empties it, a budget on disk.

A log must never harm a request. So the buffer drops and counts when it is full, and what cannot be written is counted, said
once, and tried again with what comes next.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

LOG = logging.getLogger("ct.serving")
STOP_S = 10.0
"""Seconds that `stop` waits for a disk that does not answer."""
REST = 19
"""For each second of computing, so many of rest, while the buffer is empty: each is one in which the event loop has the
interpreter to itself. Two logs that computed at once took a fifth of it for 0.1 s, and that was the p99 of all requests."""

Item = TypeVar("Item")


class Background(Generic[Item]):
    """Writes items in a thread of its own. `put` is for one thread, the event loop; it neither blocks nor does I/O.

    Args:
        name: of the thread and in messages, such as `access log`.
        write: writes a part wholly or raises; called in the thread.
        split: the parts of what was buffered, each at least one item.
        limit: summed sizes that may wait; past it items are dropped.
        wake_at: summed sizes that are written at once.
        every_s: seconds after which less is written too.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[list[Item]], None],
        *,
        split: Callable[[list[Item]], Iterable[list[Item]]],
        size: Callable[[Item], int],
        limit: int,
        wake_at: int,
        every_s: float,
    ) -> None:
        self._name = name
        self._write = write
        self._split = split
        self._size = size
        self._limit = limit
        self._wake_at = wake_at
        self._every_s = every_s
        self._items: deque[Item] = deque()
        # Each counter has one thread that changes it, so that none needs a lock.
        self._accepted = self._refused = 0
        self._taken = self._written = self._lost = 0
        self._woken = False
        # Its `put` never blocks, which a Condition's `notify` may.
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._told: set[tuple[object, ...]] = set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def written(self) -> int:
        """Summed sizes that are on disk."""
        return self._written

    @property
    def dropped(self) -> int:
        """Summed sizes that never will be: the buffer was full, or the disk did not take them."""
        return self._refused + self._lost

    def put(self, item: Item, size: int = 1) -> None:
        """Hand an item over, or drop and count it when the buffer is full."""
        waiting = self._accepted - self._taken + size
        if waiting > self._limit:
            self._refused += size
            return
        self._items.append(item)
        self._accepted += size
        if waiting >= self._wake_at and not self._woken:
            self._woken = True
            self._wake.put(False)  # noqa: FBT003  a queue's item

    def drop(self, size: int) -> None:
        """Count what its owner would not hand over; for the thread that calls `put`."""
        self._refused += size

    def start(self) -> None:
        """Begin to write; touches no disk yet."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is buffered, then return; what comes later is dropped. Safe to call twice, and before `start`."""
        self._limit = 0
        if self._thread.ident is None:
            return
        self._wake.put(True)  # noqa: FBT003  a queue's item
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            LOG.warning(
                "the %s did not finish writing within %.0f s; the rest is left to its thread", self._name, STOP_S
            )

    def paced(self, chunks: Iterable[list[Item]]) -> Iterator[list[Item]]:
        """The chunks of a part, with a rest after each; for `write`. A chunk should take less than a millisecond.

        The fuller the buffer, the shorter the rest, and none from half full on: a flood is written as fast as it comes, and
        what comes while a part is written finds room.
        """
        for chunk in chunks:
            began = time.thread_time()
            yield chunk
            fullness = (self._accepted - self._taken) / self._limit if self._limit else 1.0
            time.sleep(REST * (time.thread_time() - began) * max(0.0, 1.0 - 2 * fullness))

    def _run(self) -> None:
        stopping = False
        while not stopping:
            try:
                stopping = self._wake.get(timeout=self._every_s)
            except queue.Empty:
                stopping = False
            self._woken = False  # before the buffer is looked at, so that what comes meanwhile wakes this thread again
            self._write_parts([self._items.popleft() for _ in range(len(self._items))])

    def _write_parts(self, items: list[Item]) -> None:
        failed = False
        for part in self._split(items):
            size = sum(map(self._size, part))
            try:
                self._write(part)
            except Exception as error:  # noqa: BLE001  whatever one part meets, serving goes on and so does its log
                self._lost += size
                failed = True
                self._tell(error)
            else:
                self._written += size
            self._taken += size
        if items and not failed and self._told:
            self._told.clear()
            LOG.warning("the %s is written again; dropped until now: %d", self._name, self.dropped)

    def _tell(self, error: Exception) -> None:
        """Once for each kind of failure, until all is well again."""
        kind = (type(error), getattr(error, "errno", None))
        if kind not in self._told:
            self._told.add(kind)
            LOG.error(
                "the %s cannot be written; serving goes on, and what is dropped is counted: %s: %s",
                *(self._name, type(error).__name__, error),
                exc_info=None if isinstance(error, OSError) else error,
            )


def remove_oldest(files: Iterable[Path], budget_bytes: float) -> None:
    """Remove the least recently written files until the rest fits. Files that other workers remove meanwhile are no error."""
    found = []
    for path in files:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= budget_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size
