"""A file of values, one a line as JSON, that only grows and outlives a crash at any byte."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import ValidationError

from ct.contracts import Value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Kind = TypeVar("Kind", bound=Value)


class JsonLines(Generic[Kind]):
    """The lines of one file.

    Args:
        path: the file, which need not exist.
        kind: what a line is.
    """

    def __init__(self, path: Path, kind: type[Kind]) -> None:
        self._path = path
        self._kind = kind

    def read(self) -> tuple[Kind, ...]:
        """Every line, oldest first; one that cannot be read is left out."""
        return tuple(self._read())

    def append(self, value: Kind) -> None:
        """Add a line; it is on disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        torn = self._path.exists() and not self._path.read_bytes().endswith(b"\n")
        with self._path.open("a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + value.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> Iterator[Kind]:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        # Not str.splitlines: a text may hold U+2028 and others that it splits at.
        for line in content.split(b"\n"):
            try:
                yield self._kind.model_validate_json(line)
            except ValidationError:
                continue  # cut off by a crash; the next value was written on a line of its own
