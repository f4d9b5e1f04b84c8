"""A tar.gz whose bytes follow from its content alone: sorted names, one time, no owner."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

FILE_MODE = 0o644


def write_archive(path: Path, root: str, files: Mapping[str, bytes | Path], time: datetime) -> None:
    """Write an archive, whole or not at all.

    Args:
        path: the archive; what is there is replaced.
        root: the folder that everything in it is below.
        files: name below the root, with `/` -> its content, or the file that has it.
        time: what every file in it is dated.

    Raises:
        OSError: it cannot be written.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            # No name and no time in gzip's header: the same content gives the same bytes.
            with (
                gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as zipped,
                tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
            ):
                for name in sorted(files):
                    _add(archive, f"{root}/{name}", files[name], int(time.timestamp()))
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path, time: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime = FILE_MODE, time
    if isinstance(content, bytes):
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    else:
        with content.open("rb") as file:
            entry.size = os.fstat(file.fileno()).st_size
            archive.addfile(entry, file)
