"""Prediction requests that go out all the while, so that a failed one during a swap would be seen."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

PAUSE_S = 0.02
"""Between two requests: enough traffic to hit a swap, little enough to leave the two cores to training."""
REQUEST_TIMEOUT_S = 10.0
FAILURES_KEPT = 5


@dataclass(frozen=True)
class TrafficReport:
    """What the requests got."""

    requests: int
    failed: int
    by_version: dict[str, int]
    failures: tuple[str, ...]


class Traffic:
    """Sends one row a request to a model's predict route from a thread, from `start` until the block ends.

    Args:
        url: the `:predict` route.
        rows: instances to send in turn.
    """

    def __init__(self, url: str, rows: Sequence[dict[str, Any]]) -> None:
        self._url = url
        self._rows = rows
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_until_stopped, name="traffic", daemon=True)
        self._by_version: Counter[str] = Counter()
        self._failures: list[str] = []
        self._failed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(REQUEST_TIMEOUT_S + 1)

    def start(self) -> None:
        """Begin sending. Starting twice is safe."""
        if not self._thread.is_alive():
            self._thread.start()

    def report(self) -> TrafficReport:
        """The counts so far."""
        by_version = dict(sorted(self._by_version.items(), key=lambda item: int(item[0])))
        return TrafficReport(
            requests=sum(by_version.values()) + self._failed,
            failed=self._failed,
            by_version=by_version,
            failures=tuple(self._failures),
        )

    def _send_until_stopped(self) -> None:
        with httpx.Client(timeout=REQUEST_TIMEOUT_S) as client:
            sent = 0
            while not self._stop.wait(PAUSE_S):
                self._send(client, self._rows[sent % len(self._rows)])
                sent += 1

    def _send(self, client: httpx.Client, row: dict[str, Any]) -> None:
        try:
            response = client.post(self._url, json={"instances": [row]})
            response.raise_for_status()
            self._by_version[response.headers["ct-model-version"]] += 1
        except (httpx.HTTPError, KeyError) as error:
            self._failed += 1
            if len(self._failures) < FAILURES_KEPT:
                self._failures.append(repr(error))
