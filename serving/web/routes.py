"""Paths to targets: what a request asks for, of which model and version."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from serving.web.messages import HttpError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from serving.web.messages import Decode, Request, Response

KEPT = 1024
"""Paths whose target is kept. Whoever asks for many models that do not exist makes look-ups slower, and no more."""
MODEL = "(?P<model>[a-z][a-z0-9_]{0,62})"
VERSION = r"/versions/(?P<version>[0-9]{1,9})"
LABEL = r"/labels/(?P<label>[a-z]{1,32})"


class Target(NamedTuple):
    """What a path asks for: a prediction, which has `decode`, or something else, which has `answer`."""

    protocol: str
    method: str
    scope: str
    """The scope that a token needs; serving.web.access names them."""
    answer: Callable[[Request, Target], Response] | None = None
    decode: Decode | None = None
    waits: bool = False
    """True when `answer` takes longer than the event loop may be held up, and runs in a thread."""
    model: str | None = None
    version: int | None = None
    label: str | None = None


class Routes:
    """The table of paths.

    Args:
        table: pattern -> target, tried in order; groups named model, version and label go into the target.
    """

    def __init__(self, table: Iterable[tuple[str, Target]]) -> None:
        self._table = [(re.compile(pattern), target) for pattern, target in table]
        self._kept: dict[tuple[str, str], Target] = {}

    def find(self, method: str, path: str) -> Target:
        """The target of a request.

        Raises:
            HttpError: 404, no such path; 405, it takes another method.
        """
        if method == "HEAD":
            method = "GET"  # the same, and whoever writes the answer leaves its body out
        kept = self._kept.get((method, path))
        if kept is not None:
            return kept
        for pattern, target in self._table:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if method != target.method:
                allow = ((b"allow", target.method.encode()),)
                raise HttpError(405, f"{path[:200]} takes {target.method}, not {method[:20]}", headers=allow)
            named = match.groupdict()
            version = named.get("version")
            found = target._replace(
                model=named.get("model"), version=int(version) if version else None, label=named.get("label")
            )
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[method, path] = found
            return found
        raise HttpError(404, f"no such path: {path[:200]}")
