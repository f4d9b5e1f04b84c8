"""A Redis stream as a source: a span is a range of entry ids.

Entries are read by id and never acknowledged: the ledger's newest span says where the next one begins. An entry's fields are
the columns of a row; an entry with the one field `row` holds a JSON object instead.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ct.errors import SourceChangedError, SourceError
from ct.sources.contract import Look, Offered, Unready
from ct.sources.messages import write_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ct.source_config import RedisSourceConfig
    from ct.sources.connection import Connection
    from ct.sources.contract import Newest

ANSWER_S = 10.0
PAGE = 1000
FIRST = "0-0"
NOT_IN_A_NAME = r"[^A-Za-z0-9._-]"


class RedisStreamSource:
    """One stream.

    Args:
        config: which stream, and when a span is closed.
        connection: its extra's `db` is the database.
        clock: Unix seconds.
    """

    keeps = False

    def __init__(
        self,
        config: RedisSourceConfig,
        connection: Connection,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._config = config
        self._stream = config.stream
        self._clock = clock
        self._database = int(connection.extra.get("db") or 0)
        self._host, self._port = connection.host or "localhost", connection.port or 6379
        self._uri = f"redis://{self._host}:{self._port}/{self._database}/{config.stream}"

    @property
    def address(self) -> str:
        """The beginning of each span's uri."""
        return f"{self._uri}#"

    def look(self, since: Newest | None) -> Look:
        """The span that is whole now, if there is one: from where the newest one ended."""
        with self._client() as client:
            if not client.exists(self._stream):
                return Look(())
            facts = client.xinfo_stream(self._stream)
            trimmed = int(facts["entries-added"]) - int(facts["length"])
            begin, read = _end(since.uri) if since else (FIRST, trimmed)
            if _order(_text(facts["last-generated-id"])) <= _order(begin):
                return Look(())
            found = client.xrange(self._stream, min=f"({begin}", count=self._config.span_rows)
        # A stream is trimmed at its old end: as long as something is there that was read, nothing unread is gone.
        is_behind = facts["first-entry"] is None or _order(_text(facts["first-entry"][0])) > _order(begin)
        lost = [self._lost(begin, trimmed - read)] if is_behind and trimmed > read else []
        if not found:
            return Look((), lost)
        oldest, newest = _text(found[0][0]), _text(found[-1][0])
        is_old = self._clock() - _order(oldest)[0] / 1000 >= self._config.close_after_s
        if len(found) < self._config.span_rows and not is_old:
            return Look((), lost)
        count = (trimmed if lost else read) + len(found)
        milliseconds, number = _order(newest)
        stretch = f"{begin}..{newest}@{count}"
        name = f"{re.sub(NOT_IN_A_NAME, '-', self._stream)}-{milliseconds:015d}-{number:06d}"
        return Look((Offered(name, f"{self._uri}#{stretch}", "csv", fingerprint=stretch),), lost)

    def fetch(self, offered: Offered, folder: Path) -> Path:
        """The entries in the order of their ids."""
        begin = offered.uri.rpartition("#")[2].partition("..")[0]
        end, _ = _end(offered.uri)
        path = folder / f"{offered.name}.csv"
        with self._client() as client:
            write_messages(self._messages(client, begin, end), path)
        return path

    def _messages(self, client: Any, begin: str, end: str) -> Iterator[bytes]:
        while _order(begin) < _order(end):
            page = client.xrange(self._stream, min=f"({begin}", max=end, count=PAGE)
            if not page:
                break
            for _, fields in page:
                yield _message(fields)
            begin = _text(page[-1][0])
        if begin != end:
            raise SourceChangedError(
                f"{self._uri} does not hold entry {end} any more. Nothing was recorded; the next look begins where the stream "
                "begins now.",
                uri=self._uri,
            )

    def _lost(self, begin: str, count: int) -> Unready:
        reason = f"{count} entries after {begin} were trimmed from the stream before they were read"
        return Unready(begin, f"{self._uri}#{begin}", str(count), reason)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        import redis  # noqa: PLC0415  pipelines without Redis need no client

        client = redis.Redis(
            self._host,
            self._port,
            self._database,
            username=self._connection.login or None,
            password=self._connection.password or None,
            ssl=bool(self._connection.extra.get("ssl")),
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
        )
        try:
            yield client
        except redis.RedisError as error:
            raise SourceError(
                f"{self._uri} cannot be read: {self._connection.without_secrets(str(error))}. Nothing was recorded; it is "
                f"tried again. See the Airflow connection `{self._connection.id}`.",
                uri=self._uri,
            ) from error
        finally:
            client.close()


def _message(fields: dict[bytes, bytes]) -> bytes:
    if len(fields) == 1 and b"row" in fields:
        return fields[b"row"]
    row = {_loose(name): _loose(value) for name, value in fields.items()}
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _end(uri: str) -> tuple[str, int]:
    """The id at which a span ends, and how many entries the stream had ever had by then."""
    entry_id, _, count = uri.rpartition("..")[2].partition("@")
    return entry_id, int(count)


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def _loose(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
