"""The `source` block of pipeline.yaml, one for each kind of source. docs/sources.md shows an example of each."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Union, get_args

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from ct.config_block import Block

FORMATS = {".csv": "csv", ".parquet": "parquet", ".tfrecord": "tfrecord", ".tfrecord.gz": "tfrecord"}
"""The ending of a file -> its format."""

TimeSpan = Literal["hour", "day", "week", "month"]
S3_URI = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#@]*)?")


class SourceBlock(Block):
    """What every source has."""

    max_bad_rows: int = Field(default=0, ge=0)
    """Rows of a span that may be quarantined before the whole span is refused. 0: the first bad row refuses the span."""

    late: Literal["train", "ignore"] = "train"
    """What becomes of a span that arrives after a newer one was trained on, and of new rows in an older span: `train` starts
    a run with it, `ignore` only writes it down."""

    deleted: Literal["keep", "forget"] = "keep"
    """What becomes of a span that the source has no more: `keep` goes on training on it while its bytes can be had, `forget`
    leaves it out of later runs. Models that learnt from it stay."""


class FileSourceBlock(SourceBlock):
    """What the sources of files have in common."""

    pattern: str = "*.parquet"
    """Glob of the span files, relative to the folder or prefix: `*` and `?` within a name, `/` between folders, for example
    `*.csv` or `*/data.parquet`. The parts with wildcards, or else the last part, name the span. The ending says the format:
    `.parquet`, `.csv`, `.tfrecord` or `.tfrecord.gz`."""

    @field_validator("pattern")
    @classmethod
    def _known_format(cls, pattern: str) -> str:
        if not pattern.endswith(tuple(FORMATS)):
            raise ValueError("must end in .parquet, .csv, .tfrecord or .tfrecord.gz, the formats that ct reads")
        parts = pattern.split("/")
        if "" in parts or "." in parts or ".." in parts:
            raise ValueError("must be relative to the folder, without `.`, `..` or empty parts")
        if "**" in pattern:
            raise ValueError("`**` would make folders of any depth one span's name; write one `*` for each folder")
        return pattern


class FolderSourceConfig(FileSourceBlock):
    """Files in a local or mounted folder; every file that matches `pattern` is a span."""

    kind: Literal["folder"] = "folder"
    """`folder`, also when the key is missing."""

    path: str | None = None
    """The folder; relative paths start at CT_HOME. Default: `landing/<pipeline name>` under CT_HOME."""


class S3SourceConfig(FileSourceBlock):
    """Objects under a prefix of a bucket; every object that matches `pattern` is a span."""

    kind: Literal["s3"]
    """`s3`: Amazon S3 or any server that speaks its API."""

    uri: str
    """`s3://bucket/prefix`. Endpoint, region and keys come from the connection."""

    connection: str | None = None
    """The Airflow connection, of type `aws`. Default: the AWS default chain (environment, files, the machine's role)."""

    @field_validator("uri")
    @classmethod
    def _is_bucket(cls, uri: str) -> str:
        if not S3_URI.fullmatch(uri):
            raise ValueError("must be `s3://bucket/prefix`; keys and endpoint stand in the connection")
        return uri.rstrip("/")


class TableSourceBlock(SourceBlock):
    """What the sources of rows have in common: a span is the rows of one bucket, for example of one day."""

    connection: str
    """The Airflow connection, which holds host, user and password."""

    lateness_s: float = Field(default=300.0, ge=0)
    """Seconds after a bucket's end before it is a span: how long writers may take to bring its last rows."""

    revisit: int = Field(default=3, ge=0)
    """Buckets up to the newest span that are looked at again for late, changed and deleted rows; these make a revision.
    Each look counts the rows of so many buckets."""

    @field_validator("deleted")
    @classmethod
    def _cannot_tell_deleted(cls, deleted: str) -> str:
        if deleted == "forget":
            raise ValueError("only newer buckets are looked at, so a deleted one would not be seen; use `keep`")
        return deleted


class PostgresSourceConfig(TableSourceBlock):
    """A table, view or query of PostgreSQL."""

    kind: Literal["postgres"]
    """`postgres`: PostgreSQL 12 or newer, or a server that speaks its protocol and COPY."""

    table: str | None = None
    """`table` or `schema.table`, also a view. Exactly one of `table` and `query`."""

    query: str | None = None
    """A SELECT without a final semicolon, for example to join or to leave columns out. It runs in a read-only transaction."""

    watermark: str
    """The column that puts a row into a bucket: a timestamp, date or integer. An index on it keeps each look cheap. Rows
    without a value are in no span, which `ct events` tells."""

    span: TimeSpan | Annotated[int, Field(ge=1)] = "day"
    """What a bucket is: an `hour`, `day`, `week` (ISO, from Monday) or `month` in UTC; for an integer watermark a number N:
    values 0 to N-1, N to 2N-1, and so on. A bucket of numbers is closed once a later one has rows."""

    @field_validator("span", mode="before")
    @classmethod
    def _known_span(cls, span: object) -> object:
        if span in get_args(TimeSpan) or (type(span) is int and span >= 1):
            return span
        raise ValueError("must be hour, day, week or month, or for an integer watermark a number from 1 on")

    @model_validator(mode="after")
    def _one_of_both(self) -> PostgresSourceConfig:
        if (self.table is None) == (self.query is None):
            raise ValueError("exactly one of `table` and `query` is needed")
        if self.query is not None and self.query.rstrip().endswith(";"):
            raise ValueError("`query` stands inside another query: leave out its final `;`")
        return self


class CassandraSourceConfig(TableSourceBlock):
    """A table of Apache Cassandra whose partition key says the time bucket."""

    kind: Literal["cassandra"]
    """`cassandra`: Apache Cassandra 3.11 or newer, or a server that speaks CQL 4."""

    keyspace: str
    """The keyspace."""

    table: str
    """The table."""

    bucket: str
    """The column of the partition key that names the bucket: text (`2013-01-05`), a date, a timestamp or an integer
    (20130105). Other columns of the partition key, such as a shard, may stand beside it."""

    span: TimeSpan | None = "day"
    """The time that a bucket stands for: `hour`, `day`, `week` or `month` in UTC; it is closed `lateness_s` after its end.
    `null` for buckets that are no time: each is closed once a later one has rows."""

    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The columns to read, for example all but the bucket. Default: every column of the table."""


class MessageSourceBlock(SourceBlock):
    """What the sources of messages have in common: a message is a row, a span is a stretch of them, each in exactly one."""

    connection: str
    """The Airflow connection, which holds the servers, user and password."""

    span_rows: int = Field(default=10_000, ge=1)
    """Messages that close a span."""

    close_after_s: float = Field(default=3600.0, gt=0)
    """Seconds after which a span closes with fewer: the age of its oldest message."""

    @field_validator("late", "deleted")
    @classmethod
    def _never_changes(cls, policy: str) -> str:
        if policy in ("ignore", "forget"):
            raise ValueError("messages come in order and stay what they are; leave it out")
        return policy


class KafkaSourceConfig(MessageSourceBlock):
    """A Kafka topic whose messages are JSON objects, one row each."""

    kind: Literal["kafka"]
    """`kafka`: Apache Kafka, or a server that speaks its protocol."""

    topic: str
    """The topic. Offsets are kept in ct's ledger and never committed."""


class RedisSourceConfig(MessageSourceBlock):
    """A Redis stream whose entries are rows: their fields are the columns, or the one field `row` holds a JSON object."""

    kind: Literal["redis"]
    """`redis`: a stream (XADD) of Redis 7 or newer."""

    stream: str
    """The stream's key. Entries are read by id and never acknowledged or removed."""


def _kind_of(value: Any) -> str:
    """The union's tag: `folder` when the key is missing."""
    return str(value.get("kind", "folder") if isinstance(value, dict) else getattr(value, "kind", "folder"))


SourceConfig = Annotated[
    Union[  # noqa: UP007  a list of kinds, one a line, reads better
        Annotated[FolderSourceConfig, Tag("folder")],
        Annotated[S3SourceConfig, Tag("s3")],
        Annotated[PostgresSourceConfig, Tag("postgres")],
        Annotated[CassandraSourceConfig, Tag("cassandra")],
        Annotated[KafkaSourceConfig, Tag("kafka")],
        Annotated[RedisSourceConfig, Tag("redis")],
    ],
    Discriminator(_kind_of),
]
"""Where spans come from."""
