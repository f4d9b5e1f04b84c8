"""What a source is: it offers the spans that are whole, and fetches one as a local file. ADR 5 says why it does no more.

Reading, checking and encoding begin at that file (ct.sources.reader), the same for every source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Offered:
    """A span that a source has, as one look saw it."""

    name: str
    """Spans are ordered by it."""
    uri: str
    """Where it is; holds no user and no password. The same for the same span at each look."""
    format: str
    """Of the file that `fetch` gives: `csv`, `parquet` or `tfrecord`."""
    fingerprint: str
    """Another one whenever the bytes may be others. Compared for equality only; it spares hashing and proves nothing."""
    size_bytes: int | None = None
    """None where only a fetch would tell."""


@dataclass(frozen=True)
class Newest:
    """The span of a source that sorts last of those that were recorded."""

    name: str
    uri: str
    """As the source offered it."""


@dataclass(frozen=True)
class Unready:
    """Something there that is no whole span: half-written, cut, still filling."""

    name: str
    uri: str
    fingerprint: str
    reason: str
    """The middle of a sentence, such as `its Parquet footer has not been written`."""
    ready_in_s: float | None = None
    """Seconds until it counts as whole if nothing happens to it: it is on its way, and nobody needs to be told. None where
    nobody knows: when it stays so, that is written down for `ct status`."""


@dataclass(frozen=True)
class Look:
    """What a source has now."""

    offered: Sequence[Offered]
    """Ordered by name."""
    unready: Sequence[Unready] = ()


class Source(Protocol):
    """Where a pipeline's spans come from. Used by one thread at a time; both methods may block."""

    @property
    def keeps(self) -> bool:
        """Whether `look` lists everything there is, so that a span which is listed no more was deleted.

        Where it does not, spans are recorded in the order in which they are offered, without gaps.
        """
        ...

    @property
    def address(self) -> str:
        """What the uri of each of its spans begins with, and that of no other source's."""
        ...

    def look(self, since: Newest | None) -> Look:
        """What is there now.

        Args:
            since: the newest of its spans that the ledger has, duplicates too; None for a source that keeps. One that cannot
                list all of its spans cheaply lists those from there on, and some before it, where late rows are awaited.

        Raises:
            SourceError: it cannot be reached or read; the message names it, without a secret.
        """
        ...

    def fetch(self, offered: Offered, folder: Path) -> Path:
        """The span as a local file, in memory that does not grow with it. Fetching again is safe and gives the same rows.

        Args:
            offered: from the newest `look`.
            folder: where a copy goes, under a name that no other fetch uses; not used by sources whose files are local.

        Raises:
            SourceChangedError: it is not what was offered any more; the next look tells.
            SourceError: it cannot be read.
        """
        ...
