"""A Kafka topic as a source: ranges of offsets become spans, each message in exactly one of them."""

from __future__ import annotations

import csv
import json
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ct.errors import SourceChangedError, SourceError
from ct.source_config import KafkaSourceConfig
from ct.sources.connection import Connection
from ct.sources.contract import Newest
from ct.sources.kafka import KafkaSource

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from source_servers import Server

    from ct.sources.contract import Offered

ROWS = 100


class Topic:
    """A topic of two partitions."""

    def __init__(self, server: Server) -> None:
        broker = server.connection.extra["bootstrap.servers"]
        self.connection = server.connection
        self.name = f"flights-{uuid.uuid4().hex[:8]}"
        self._admin = AdminClient({"bootstrap.servers": broker})
        for made in self._admin.create_topics([NewTopic(self.name, 2, 1)]).values():
            made.result()
        self._producer = Producer({"bootstrap.servers": broker})

    def send(self, messages: Iterable[bytes], partition: int = 0) -> None:
        for message in messages:
            self._producer.produce(self.name, message, partition=partition)
        assert self._producer.flush(20) == 0

    def expire(self, before: int, partition: int = 0) -> None:
        """Let the topic forget what is older than an offset, as retention does."""
        part = TopicPartition(self.name, partition, before)
        for done in self._admin.delete_records([part]).values():
            done.result()

    def source(self, *, age_s: float = 0.0, close_after_s: float = 60.0) -> KafkaSource:
        """The source as it sees the topic `age_s` seconds from now."""
        return KafkaSource(configured(self.name, close_after_s), self.connection, lambda: time.time() + age_s)


def configured(topic: str, close_after_s: float = 60.0) -> KafkaSourceConfig:
    """The block of pipeline.yaml."""
    return KafkaSourceConfig(
        kind="kafka", connection="broker", topic=topic, span_rows=ROWS, close_after_s=close_after_s
    )


@pytest.fixture
def topic(kafka: Server) -> Topic:
    """A new topic."""
    return Topic(kafka)


def recorded(offered: Offered) -> Newest:
    """What the ledger has of it."""
    return Newest(offered.name, offered.uri)


def rows(path: Path) -> list[dict[str, str]]:
    """A file's rows, column -> text."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def numbered(begin: int, end: int) -> list[bytes]:
    """Messages with a number and a text that CSV must quote."""
    return [json.dumps({"number": number, "note": 'a "quoted", line\n'}).encode() for number in range(begin, end)]


def test_each_message_is_in_exactly_one_span(topic: Topic, tmp_path: Path) -> None:
    """Whoever looks, and however often; a span closes when it has its rows, or when its oldest message is old enough."""
    topic.send(numbered(0, 130), partition=0)
    topic.send(numbered(130, 250), partition=1)
    seen: list[int] = []
    since = None
    for expected in (ROWS, ROWS, 50):
        source = topic.source(age_s=100)
        (offered,) = source.look(since).offered
        assert topic.source(age_s=100).look(since).offered == (offered,)
        fetched = rows(source.fetch(offered, tmp_path))
        assert len(fetched) == expected
        assert {row["note"] for row in fetched} == {'a "quoted", line\n'}
        seen += [int(row["number"]) for row in fetched]
        assert since is None or since.name < offered.name
        since = recorded(offered)
    assert topic.source(age_s=100).look(since).offered == ()
    assert sorted(seen) == list(range(250))


def test_a_span_waits_for_its_rows_or_its_time(topic: Topic) -> None:
    """Neither full nor old: nothing yet."""
    topic.send(numbered(0, 10))
    assert topic.source(close_after_s=60).look(None).offered == ()
    assert len(topic.source(close_after_s=60, age_s=61).look(None).offered) == 1


def test_fetching_again_gives_the_same_bytes(topic: Topic, tmp_path: Path) -> None:
    """Also when more has come meanwhile."""
    topic.send(numbered(0, 20))
    (offered,) = topic.source(age_s=100).look(None).offered
    first = topic.source().fetch(offered, tmp_path).read_bytes()
    topic.send(numbered(20, 40))
    assert topic.source().fetch(offered, tmp_path).read_bytes() == first


def test_what_expired_before_it_was_read_is_said(topic: Topic, tmp_path: Path) -> None:
    """The span begins where the topic begins now, and the loss has a name; what expires after the look is not half a span."""
    topic.send(numbered(0, 20))
    (offered,) = topic.source(age_s=100).look(None).offered
    topic.expire(5)
    with pytest.raises(SourceChangedError, match="has expired"):
        topic.source().fetch(offered, tmp_path)
    begun = offered.uri.partition("#")[0] + "#0=0-2,1=0-0"
    look = topic.source(age_s=100).look(Newest(offered.name, begun))
    assert [unready.reason for unready in look.unready] == [
        "messages 2 to 4 of partition 0 expired in the topic before they were read"
    ]
    assert [row["number"] for row in rows(topic.source().fetch(look.offered[0], tmp_path))] == list(
        map(str, range(5, 20))
    )


def test_a_message_that_is_no_row_stays_visible(topic: Topic, tmp_path: Path) -> None:
    """It becomes a line that the reader refuses or quarantines; its neighbours are whole."""
    topic.send([b'{"number": 1, "note": null}', b"not JSON", b"[1, 2]", b'{"number": 2.5, "extra": true}', b"\xff\xfe"])
    (offered,) = topic.source(age_s=100).look(None).offered
    lines = topic.source().fetch(offered, tmp_path).read_bytes().splitlines()
    assert lines == [b"number,note,extra", b"1,,", b"not JSON", b'"[1, 2]"', b"2.5,,1", b"\xff\xfe"]


def test_a_broker_that_does_not_answer_is_an_error_that_names_it() -> None:
    """Another look tries again."""
    source = KafkaSource(
        configured("flights"), Connection("broker", "kafka", extra={"bootstrap.servers": "127.0.0.1:1"})
    )
    with pytest.raises(SourceError, match=r"kafka://127\.0\.0\.1:1/flights cannot be read"):
        source.look(None)


def test_a_topic_that_is_not_there_is_an_error(kafka: Server) -> None:
    """Not an empty source."""
    source = KafkaSource(configured("no-such-topic"), kafka.connection)
    with pytest.raises(SourceError, match="Unknown topic"):
        source.look(None)
