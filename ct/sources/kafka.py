"""A Kafka topic as a source: a span is a range of offsets in each partition.

The ranges stand in the span's uri, and those of the ledger's newest span say where the next span begins. No offset is
committed: what was read is what the ledger has, whatever dies in between.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ct.errors import SourceChangedError, SourceError
from ct.sources.contract import Look, Offered, Unready
from ct.sources.messages import write_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ct.source_config import KafkaSourceConfig
    from ct.sources.connection import Connection
    from ct.sources.contract import Newest

ANSWER_S = 10.0
"""Longest wait for the broker, for one answer or the next message."""
RANGE = re.compile(r"(\d+)=(\d+)-(\d+)")
GROUP = "ct"
"""A consumer must name one; nothing is committed to it."""


class KafkaSource:
    """One topic.

    Args:
        config: which topic, and when a span is closed.
        connection: its extra is the client's configuration.
        clock: Unix seconds.
    """

    keeps = False

    def __init__(
        self,
        config: KafkaSourceConfig,
        connection: Connection,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._configuration = {
            "log_level": 0,
            "reconnect.backoff.ms": 500,
            **connection.extra,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
        self._configuration.setdefault("group.id", GROUP)
        self._config = config
        self._topic = config.topic
        self._clock = clock
        servers = str(connection.extra.get("bootstrap.servers", ""))
        self._connection = connection
        self._uri = f"kafka://{servers.partition(',')[0]}/{config.topic}"

    @property
    def address(self) -> str:
        """The beginning of each span's uri."""
        return f"{self._uri}#"

    def look(self, since: Newest | None) -> Look:
        """The span that is whole now, if there is one: from where the newest one ended."""
        begun = _ranges(since.uri) if since else {}
        with self._consumer() as consumer:
            held = self._held(consumer)
            begins = {
                partition: begun[partition][1] if partition in begun else low for partition, (low, _) in held.items()
            }
            expired = [
                self._expired(partition, begins[partition], low)
                for partition, (low, _) in held.items()
                if begins[partition] < low
            ]
            unread = {partition: high - max(begins[partition], low) for partition, (low, high) in held.items()}
            ranges, room = {}, self._config.span_rows
            # The emptiest first, so that what one partition does not need of its share goes to the fuller ones.
            for left, partition in zip(
                range(len(unread), 0, -1), sorted(unread, key=lambda each: unread[each]), strict=True
            ):
                taken = min(unread[partition], room // left)
                begin = max(begins[partition], held[partition][0])
                ranges[partition] = (begin, begin + taken)
                room -= taken
            if room == self._config.span_rows or (room > 0 and not self._is_old(consumer, ranges)):
                return Look((), expired)
        text = ",".join(f"{partition}={begin}-{end}" for partition, (begin, end) in sorted(ranges.items()))
        uri = f"{self._uri}#{text}"
        name = f"{self._topic}-{sum(end for _, end in ranges.values()):015d}"
        return Look((Offered(name, uri, "csv", fingerprint=text),), expired)

    def fetch(self, offered: Offered, folder: Path) -> Path:
        """The messages by partition and offset."""
        path = folder / f"{offered.name}.csv"
        with self._consumer() as consumer:
            write_messages(self._messages(consumer, _ranges(offered.uri)), path)
        return path

    def _messages(self, consumer: Any, ranges: Mapping[int, tuple[int, int]]) -> Iterator[bytes]:
        for partition, (begin, end) in sorted(ranges.items()):
            if begin < end:
                yield from self._read(consumer, partition, begin, end)

    def _read(self, consumer: Any, partition: int, begin: int, end: int) -> Iterator[bytes]:
        for message in self._from(consumer, partition, begin):
            if message is None or message.offset() >= end:
                return  # compacted topics and transactions leave gaps, also at the end
            if message.value() is not None:
                yield bytes(message.value())
            if message.offset() == end - 1:
                return

    def _from(self, consumer: Any, partition: int, begin: int) -> Iterator[Any]:
        """Messages of one partition from an offset on; None when there is no more."""
        from confluent_kafka import KafkaError, TopicPartition  # noqa: PLC0415  pipelines without Kafka need no client

        consumer.assign([TopicPartition(self._topic, partition, begin)])
        while True:
            message = consumer.poll(ANSWER_S)
            if message is None:
                raise self._error(f"partition {partition} gave no message within {ANSWER_S:g} s")
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  confluent_kafka's documented constant
                yield None
                return
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):  # noqa: SLF001  the same
                raise SourceChangedError(
                    f"Offset {begin} of partition {partition} of {self._uri} has expired. Nothing was recorded; the next "
                    "look begins where the topic begins now.",
                    uri=self._uri,
                )
            else:
                raise self._error(str(error.str()))

    def _held(self, consumer: Any) -> dict[int, tuple[int, int]]:
        """Partition -> the offsets that the topic holds now, the second one exclusive."""
        from confluent_kafka import KafkaException, TopicPartition  # noqa: PLC0415

        try:
            topic = consumer.list_topics(self._topic, timeout=ANSWER_S).topics[self._topic]
            if topic.error is not None:
                raise self._error(str(topic.error.str()))
            return {
                number: consumer.get_watermark_offsets(
                    TopicPartition(self._topic, number), timeout=ANSWER_S, cached=False
                )
                for number in topic.partitions
            }
        except KafkaException as error:
            raise self._error(str(error.args[0].str())) from error

    def _is_old(self, consumer: Any, ranges: Mapping[int, tuple[int, int]]) -> bool:
        """Whether the oldest message has waited for long enough."""
        for partition, (begin, end) in ranges.items():
            first = next(self._from(consumer, partition, begin)) if begin < end else None
            if first is not None and self._clock() - first.timestamp()[1] / 1000 >= self._config.close_after_s:
                return True
        return False

    def _expired(self, partition: int, begin: int, low: int) -> Unready:
        reason = f"messages {begin} to {low - 1} of partition {partition} expired in the topic before they were read"
        return Unready(f"{partition}-{begin}", f"{self._uri}#{partition}={begin}-{low}", f"{begin}-{low}", reason)

    @contextmanager
    def _consumer(self) -> Iterator[Any]:
        from confluent_kafka import Consumer, KafkaException  # noqa: PLC0415

        try:
            consumer = Consumer(self._configuration, logger=None)
        except KafkaException as error:
            raise self._error(str(error.args[0].str())) from error
        try:
            yield consumer
        finally:
            consumer.close()

    def _error(self, reason: str) -> SourceError:
        return SourceError(
            f"{self._uri} cannot be read: {self._connection.without_secrets(reason)}. Nothing was recorded; it is tried again. "
            f"See the Airflow connection `{self._connection.id}`.",
            uri=self._uri,
        )


def _ranges(uri: str) -> dict[int, tuple[int, int]]:
    """Partition -> begin and end, from a span's uri."""
    return {int(p): (int(begin), int(end)) for p, begin, end in RANGE.findall(uri.rpartition("#")[2])}
