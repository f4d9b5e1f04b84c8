"""A real S3 server as a source: what is offered, fetched, revised and refused."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from pyarrow import fs
from source_servers import LOGIN, PASSWORD, Server
from spans import read

from ct.errors import SourceChangedError, SourceError
from ct.source_config import S3SourceConfig
from ct.sources import object_store
from ct.sources.columns import ColumnType
from ct.sources.object_store import ObjectStoreSource

if TYPE_CHECKING:
    from pathlib import Path

JANUARY = b"number\n1\n"
SETTLED_S = 60.0
"""How far the source's clock is ahead, so that no object is too young."""


@dataclasses.dataclass
class Bucket:
    """A bucket of one test's own."""

    server: Server
    files: fs.S3FileSystem
    name: str

    def put(self, key: str, content: bytes = JANUARY) -> None:
        """Write an object."""
        with self.files.open_output_stream(f"{self.name}/{key}") as stream:
            stream.write(content)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.files.delete_file(f"{self.name}/{key}")

    def source(self, prefix: str = "landing", pattern: str = "*.csv", ahead_s: float = SETTLED_S) -> ObjectStoreSource:
        """The source of a prefix."""
        config = S3SourceConfig(kind="s3", uri=f"s3://{self.name}/{prefix}", pattern=pattern, connection="lake")
        return ObjectStoreSource(config, self.server.connection, lambda: time.time() + ahead_s)


@pytest.fixture
def bucket(store: Server) -> Bucket:
    """A bucket with nothing in it."""
    extra = store.connection.extra
    endpoint = str(extra["endpoint_url"]).removeprefix("http://")
    settings = {"scheme": "http", "endpoint_override": endpoint, "region": str(extra["region_name"])}
    files = fs.S3FileSystem(access_key=LOGIN, secret_key=PASSWORD, allow_bucket_creation=True, **settings)
    name = f"flights-{uuid4().hex}"
    files.create_dir(name)
    return Bucket(store, files, name)


def names(look: Any) -> list[str]:
    """What was offered."""
    return [offered.name for offered in look.offered]


def test_objects_that_match_are_spans(bucket: Bucket) -> None:
    """In order of name; objects in folders below, of other formats and hidden ones are not."""
    for key in ("2013-02.csv", "2013-01.csv", "deeper/2013-03.csv", "2013-04.txt", ".hidden.csv"):
        bucket.put(f"landing/{key}")
    look = bucket.source().look(None)
    assert names(look) == ["2013-01", "2013-02"]
    assert look.offered[0].uri == f"s3://{bucket.name}/landing/2013-01.csv"
    assert (look.offered[0].format, look.offered[0].size_bytes) == ("csv", len(JANUARY))


def test_a_folder_may_name_the_span(bucket: Bucket) -> None:
    """Exactly at the pattern's depth."""
    for key in (
        "2013-01-02/data.csv",
        "2013-01-01/data.csv",
        "2013-01-01/other.csv",
        "a/2013-01-03/data.csv",
        "data.csv",
    ):
        bucket.put(f"landing/{key}")
    assert names(bucket.source(pattern="*/data.csv").look(None)) == ["2013-01-01", "2013-01-02"]


def test_a_whole_bucket_may_be_a_source(bucket: Bucket) -> None:
    """Without a prefix."""
    bucket.put("2013-01.csv")
    assert names(bucket.source(prefix="").look(None)) == ["2013-01"]


def test_two_objects_of_one_name_are_told(bucket: Bucket) -> None:
    """The first is the span; two would revise each other for ever."""
    bucket.put("landing/a-b/c.csv")
    bucket.put("landing/a/b-c.csv")
    look = bucket.source(pattern="*/*.csv").look(None)
    assert names(look) == ["a-b-c"]
    assert "has the same name, a-b-c" in look.unready[0].reason


def test_an_empty_prefix_has_no_spans_and_a_missing_bucket_is_an_error(bucket: Bucket) -> None:
    """Only one of them is a mistake."""
    assert bucket.source(prefix="nothing/here").look(None).offered == []
    with pytest.raises(SourceError, match="there is no bucket"):
        dataclasses.replace(bucket, name="nowhere").source().look(None)


def test_a_fetched_object_is_the_same_bytes_and_the_reader_takes_it(bucket: Bucket, tmp_path: Path) -> None:
    """It is copied in blocks; 20 MB are more than one."""
    content = b"number\n" + b"1234567890\n" * 2_000_000
    bucket.put("landing/2013-01.csv", content)
    source = bucket.source()
    path = source.fetch(source.look(None).offered[0], tmp_path)
    assert path.read_bytes() == content
    assert read(path, number=ColumnType.INT).num_rows == 2_000_000


def test_a_replaced_object_has_another_fingerprint(bucket: Bucket, tmp_path: Path) -> None:
    """And what was offered before it is not fetched any more."""
    bucket.put("landing/2013-01.csv")
    source = bucket.source()
    before = source.look(None).offered[0]
    bucket.put("landing/2013-01.csv", b"number\n22\n")
    assert source.look(None).offered[0].fingerprint != before.fingerprint
    with pytest.raises(SourceChangedError, match="has changed since it was offered"):
        source.fetch(before, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_deleted_object_is_listed_no_more(bucket: Bucket, tmp_path: Path) -> None:
    """The source lists all there is, so the ledger can tell."""
    bucket.put("landing/2013-01.csv")
    source = bucket.source()
    before = source.look(None).offered[0]
    bucket.delete("landing/2013-01.csv")
    assert source.keeps
    assert names(source.look(None)) == []
    with pytest.raises(SourceChangedError, match="is gone"):
        source.fetch(before, tmp_path)


def test_an_object_replaced_while_it_is_read_is_not_taken(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of two objects never make one span, also when size and second are the same."""
    bucket.put("landing/2013-01.csv", b"number\n11\n22\n")
    source = bucket.source()
    offered = source.look(None).offered[0]
    checked = ObjectStoreSource._check

    def replaced(self: ObjectStoreSource, files: fs.S3FileSystem, what: Any) -> None:
        checked(self, files, what)
        bucket.put("landing/2013-01.csv", b"number\n33\n44\n")

    monkeypatch.setattr(object_store, "BLOCK_BYTES", 4)
    monkeypatch.setattr(ObjectStoreSource, "_check", replaced)
    with pytest.raises(SourceChangedError, match="was replaced while it was read"):
        source.fetch(offered, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_object_of_this_second_waits(bucket: Bucket) -> None:
    """It could be replaced by another of the same size and time."""
    bucket.put("landing/2013-01.csv")
    look = bucket.source(ahead_s=0).look(None)
    assert look.offered == []
    assert look.unready[0].ready_in_s is not None
    assert look.unready[0].ready_in_s <= object_store.TIME_STEP_S


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"password": "wr/ong-s3cret"}, "SIGNATURE_DOES_NOT_MATCH"),
        ({"login": "j0hn"}, "No user exists"),
        ({"login": None}, "ACCESS_DENIED"),
    ],
)
def test_wrong_credentials_are_an_error_without_the_secret(bucket: Bucket, wrong: dict[str, Any], reason: str) -> None:
    """Neither the keys nor the chain of causes stand in it."""
    server = dataclasses.replace(bucket.server, connection=dataclasses.replace(bucket.server.connection, **wrong))
    with pytest.raises(SourceError, match=reason) as refused:
        dataclasses.replace(bucket, server=server).source().look(None)
    assert refused.value.__cause__ is None
    for secret in (PASSWORD, LOGIN, "wr/ong-s3cret", "j0hn"):
        assert secret not in str(refused.value) + repr(refused.value.facts)


def test_a_server_that_goes_away_is_an_error_and_works_again(bucket: Bucket, tmp_path: Path) -> None:
    """The same source object needs nothing done to it."""
    bucket.put("landing/2013-01.csv")
    source = bucket.source()
    before = source.look(None)
    bucket.server.stop()
    try:
        with pytest.raises(SourceError, match="Nothing was recorded; the next look tries again"):
            source.look(None)
        with pytest.raises(SourceError):
            source.fetch(before.offered[0], tmp_path)
    finally:
        bucket.server.start()
    assert source.look(None) == before
    assert source.fetch(before.offered[0], tmp_path).read_bytes() == JANUARY
