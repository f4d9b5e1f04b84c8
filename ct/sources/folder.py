"""A folder as a source: which files are spans, and whether one has been written to its end."""

from __future__ import annotations

import os
import stat
import time
from codecs import BOM_UTF16_LE
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ct.errors import SourceChangedError, SourceError
from ct.sources.contract import Look, Offered, Unready
from ct.sources.patterns import format_of, is_match, span_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct.sources.contract import Newest


UNFINISHED_ENDINGS = (".tmp", ".part", ".partial", ".crdownload")
PARQUET_MAGIC = b"PAR1"


@dataclass
class FolderSource:
    """Every file of `path` that matches `pattern` is a span; it is read in place, not copied. ct.sources.patterns names it."""

    path: Path
    """Absolute."""
    pattern: str
    settle_s: float = 0.0
    """Seconds that a file must keep its size and time."""
    clock: Callable[[], float] = time.monotonic
    """Seconds; does not run backwards."""
    _settling: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Address -> its fingerprint, and since when it has had it."""
    _whole: dict[str, str] = field(default_factory=dict)
    """Address -> the fingerprint with which it was whole, so that no look opens a file again."""

    @property
    def keeps(self) -> bool:
        """A look lists every file."""
        return True

    @property
    def address(self) -> str:
        """The beginning of each span's uri."""
        return f"{self.path}/"

    def look(self, since: Newest | None) -> Look:  # noqa: ARG002  all are listed, whatever the ledger has
        """The files there now. Hidden files and names that say 'unfinished' are left out.

        Raises:
            SourceError: the folder is not there, for example not mounted, or cannot be read.
        """
        now_s = self.clock()
        offered: dict[str, Offered] = {}
        unready: list[Unready] = []
        before, self._settling = self._settling, {}
        whole, self._whole = self._whole, {}
        for path, inside, status in self._files():
            uri, fingerprint = str(path), _fingerprint(status)
            name = span_name(inside, self.pattern)
            since_s = before[uri][1] if before.get(uri, ("",))[0] == fingerprint else now_s
            self._settling[uri] = (fingerprint, since_s)
            left_s = self.settle_s - (now_s - since_s)
            if left_s > 0:
                unready.append(Unready(name, uri, fingerprint, "it was written to a moment ago", left_s))
            elif name in offered:
                unready.append(Unready(name, uri, fingerprint, f"{offered[name].uri} gives a span of the same name"))
            elif whole.get(uri) != fingerprint and (reason := incomplete_reason(path)) is not None:
                unready.append(Unready(name, uri, fingerprint, reason))
            else:
                self._whole[uri] = fingerprint
                offered[name] = Offered(name, uri, format_of(self.pattern), fingerprint, status.st_size)
        return Look(tuple(offered[name] for name in sorted(offered)), tuple(unready))

    def fetch(self, offered: Offered, folder: Path) -> Path:  # noqa: ARG002  the file is local
        """The file itself, where it is what was offered still.

        Raises:
            SourceChangedError: it was written to, or went away.
            SourceError: it cannot be read.
        """
        path = Path(offered.uri)
        try:
            now = _fingerprint(path.stat())
        except FileNotFoundError:
            now = "gone"
        except OSError as error:
            raise _unreadable(path, error) from error
        if now != offered.fingerprint:
            raise SourceChangedError(
                f"{path} has changed since it was looked at ({offered.fingerprint}, now {now}). Nothing was recorded; "
                "the next look tells.",
                uri=str(path),
            )
        return path

    def _files(self) -> list[tuple[Path, str, os.stat_result]]:
        """What matches, ordered by path; each with its path inside the folder."""
        found = []
        try:
            if not self.path.is_dir():  # glob would find nothing and say nothing
                raise _unreadable(self.path, FileNotFoundError(2, "it does not exist"))
            os.scandir(self.path).close()  # glob says nothing of a folder that must not be read, either
            begin = len(str(self.path / "x")) - 1
            for path in sorted(self.path.glob(self.pattern)):
                inside = str(path)[begin:]  # for each file at each look, where relative_to takes 10 us
                if inside.endswith(UNFINISHED_ENDINGS) or not is_match(inside, self.pattern):
                    continue
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue  # gone between the listing and the look
                if stat.S_ISREG(status.st_mode):
                    found.append((path, inside, status))
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return found


def incomplete_reason(path: Path) -> str | None:
    """Why the file looks half-written or cannot be read, or None when it is whole.

    A Parquet file ends with its magic bytes, a CSV file with a line end. An empty file is whole, and so is one in UTF-16: it
    will be refused with a reason rather than waited for.
    """
    try:
        with path.open("rb") as file:
            is_utf16 = file.read(len(BOM_UTF16_LE)) == BOM_UTF16_LE
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(PARQUET_MAGIC)))
            tail = file.read()
    except FileNotFoundError:
        return "it went away"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    if not tail:
        return None
    if path.suffix == ".parquet" and tail != PARQUET_MAGIC:
        return "its Parquet footer has not been written"
    if path.suffix == ".csv" and not is_utf16 and not tail.endswith((b"\n", b"\r")):
        return "its last line has no line end"
    return None


def _fingerprint(status: os.stat_result) -> str:
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"{path}: {error.strerror or error}", uri=str(path))
