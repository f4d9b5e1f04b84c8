"""S3, or any server that speaks its API, as a source: every object under a prefix that matches a pattern is a span."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pyarrow import fs

from ct.sources.contract import Look, Offered, Unready
from ct.sources.failures import changed, unreachable
from ct.sources.patterns import folder_depth, format_of, is_match, span_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ct.source_config import S3SourceConfig
    from ct.sources.connection import Connection
    from ct.sources.contract import Newest

BLOCK_BYTES = 8 << 20
CONNECT_S = 5.0
ANSWER_S = 60.0
TIME_STEP_S = 2.0
"""S3 tells an object's time in whole seconds: younger than this, it could be replaced by one of the same size and time."""


class ObjectStoreSource:
    """A prefix of one bucket.

    Args:
        config: the source block.
        connection: an Airflow connection of type `aws`: login and password are access key and secret key; `extra` may hold
            `endpoint_url`, `region_name`, `aws_session_token`, `role_arn` and `verify` (a file of CA certificates). None, or
            one without a login, for the AWS default chain.
        clock: Unix seconds.
    """

    keeps = True

    def __init__(
        self, config: S3SourceConfig, connection: Connection | None, clock: Callable[[], float] = time.time
    ) -> None:
        self._uri = config.uri
        self._pattern = config.pattern
        self._connection = connection
        self._clock = clock

    @property
    def address(self) -> str:
        """The beginning of each span's uri."""
        return f"{self._uri}/"

    def look(self, since: Newest | None) -> Look:  # noqa: ARG002  the contract's; a listing is cheap
        """Every object there is."""
        root = self._uri.removeprefix("s3://")
        try:
            listed = self._list(self._files(), root)
        except OSError as error:
            raise unreachable(self._uri, self._connection, str(error)) from None
        offered: dict[str, Offered] = {}
        unready = []
        for found in sorted(listed, key=lambda file: str(file.path)):
            path = found.path.removeprefix(f"{root}/")
            if not is_match(path, self._pattern):
                continue
            name, uri, fingerprint = span_name(path, self._pattern), f"{self._uri}/{path}", _fingerprint(found)
            age_s = self._clock() - found.mtime_ns / 1e9
            if name in offered:
                reason = f"{offered[name].uri} has the same name, {name}"
                unready.append(Unready(name, uri, fingerprint, reason))
            elif age_s < TIME_STEP_S:
                reason = f"it is younger than {TIME_STEP_S:g} s"
                unready.append(Unready(name, uri, fingerprint, reason, TIME_STEP_S - age_s))
            else:
                offered[name] = Offered(name, uri, format_of(self._pattern), fingerprint, found.size)
        return Look(sorted(offered.values(), key=lambda span: span.name), unready)

    def fetch(self, offered: Offered, folder: Path) -> Path:
        """The object as it was offered, copied in blocks."""
        key = offered.uri.removeprefix("s3://")
        path = folder / key.rsplit("/", 1)[1]
        try:
            files = self._files()
            with files.open_input_stream(key, compression=None) as source:
                tag = source.metadata().get("ETag")
                self._check(files, offered)
                with path.open("wb") as copy:
                    while block := source.read(BLOCK_BYTES):
                        copy.write(block)
            # Blocks are asked for one by one, so the object may have been replaced between two of them.
            with files.open_input_stream(key, compression=None) as again:
                is_same = again.metadata().get("ETag") == tag
        except FileNotFoundError:
            raise changed(offered.uri, "is gone") from None
        except OSError as error:
            raise unreachable(offered.uri, self._connection, str(error)) from None
        if not is_same or path.stat().st_size != offered.size_bytes:
            path.unlink()
            raise changed(offered.uri, "was replaced while it was read")
        return path

    def _check(self, files: fs.S3FileSystem, offered: Offered) -> None:
        if _fingerprint(files.get_file_info(offered.uri.removeprefix("s3://"))) != offered.fingerprint:
            raise changed(offered.uri, "has changed since it was offered")

    def _list(self, files: fs.S3FileSystem, root: str) -> list[fs.FileInfo]:
        depth = folder_depth(self._pattern)
        selector = fs.FileSelector(root, allow_not_found=True, recursive=depth > 0)
        listed = [found for found in files.get_file_info(selector) if found.type == fs.FileType.File]
        bucket = root.split("/", 1)[0]
        if not listed and files.get_file_info(bucket).type == fs.FileType.NotFound:
            raise FileNotFoundError(f"there is no bucket {bucket}")
        return listed

    def _files(self) -> fs.S3FileSystem:
        extra: dict[str, Any] = dict(self._connection.extra) if self._connection else {}
        settings: dict[str, Any] = {"connect_timeout": CONNECT_S, "request_timeout": ANSWER_S}
        if self._connection and self._connection.login:
            settings |= {"access_key": self._connection.login, "secret_key": self._connection.password}
        endpoint = extra.get("endpoint_url")
        if endpoint:
            parts = urlsplit(endpoint)
            settings |= {"scheme": parts.scheme, "endpoint_override": parts.netloc + parts.path.rstrip("/")}
        names = (
            ("region_name", "region"),
            ("aws_session_token", "session_token"),
            ("role_arn", "role_arn"),
            ("verify", "tls_ca_file_path"),
        )
        settings |= {ours: extra[theirs] for theirs, ours in names if isinstance(extra.get(theirs), str)}
        return fs.S3FileSystem(**settings)


def _fingerprint(found: fs.FileInfo) -> str:
    return f"{found.size} bytes of {found.mtime_ns}"
