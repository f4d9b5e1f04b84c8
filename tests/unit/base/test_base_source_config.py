"""The `source` block: one for each kind, and what is wrong with one is named with the right key of that kind."""

from __future__ import annotations

from typing import Any

import pytest

from ct.config import PipelineConfig, parse_pipeline_config
from ct.errors import ConfigError

LEAST: dict[str, Any] = {
    "name": "trips",
    "description": "d",
    "owner": "o",
    "label": "late",
    "window": {"time_column": "t"},
    "gate": {"threshold": 0.6},
}
S3 = {"kind": "s3", "uri": "s3://lake/flights"}
POSTGRES = {"kind": "postgres", "connection": "warehouse", "table": "flights", "watermark": "at"}
CASSANDRA = {"kind": "cassandra", "connection": "events", "keyspace": "air", "table": "flights", "bucket": "day"}


def parsed(source: Any) -> PipelineConfig:
    """A pipeline with this source block."""
    return parse_pipeline_config({**LEAST, "source": source}, where="pipeline.yaml")


@pytest.mark.parametrize("source", [{}, {"path": "landing"}, S3, POSTGRES, CASSANDRA], ids=str)
def test_every_kind_survives_being_stored(source: dict[str, Any]) -> None:
    """A deployed spec holds the config as JSON; what is read back is the same. Without `kind` it is a folder."""
    config = parsed(source)
    assert config.source.kind == source.get("kind", "folder")
    assert PipelineConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_static_sample_and_live_data_differ_in_their_source_blocks_only() -> None:
    """Swapping the source is one block of YAML."""
    sample, live = parsed({"path": "samples/flights"}), parsed(POSTGRES)
    assert sample.model_copy(update={"source": live.source}) == live


@pytest.mark.parametrize("source", [{}, S3, POSTGRES, CASSANDRA], ids=str)
def test_bad_late_and_deleted_are_everywhere_the_same(source: dict[str, Any]) -> None:
    """Nothing is left out, late spans train, deleted ones stay."""
    config = parsed(source).source
    assert (config.max_bad_rows, config.late, config.deleted) == (0, "train", "keep")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "foldr"}, "source.kind: unknown kind; did you mean `folder`?"),
        ({"kind": "ftp"}, "source.kind: unknown kind; kinds: folder, s3, postgres, cassandra"),
        ({"kind": 3}, "source.kind: unknown kind"),
        ({"patern": "*.csv"}, "source.patern: unknown key; did you mean `pattern`?"),
        (
            {"uri": "s3://lake/x"},
            "source.uri: unknown key; known keys: deleted, kind, late, max_bad_rows, path, pattern",
        ),
        ({**S3, "conection": "lake"}, "source.conection: unknown key; did you mean `connection`?"),
        ({"kind": "s3"}, "source.uri: required, and missing"),
        ({**S3, "uri": "http://lake/x"}, "source.uri: must be `s3://bucket/prefix`"),
        ({**S3, "uri": "s3://Lake"}, "source.uri: must be `s3://bucket/prefix`"),
        ({**S3, "pattern": "*.json"}, "source.pattern: must end in .parquet, .csv, .tfrecord or .tfrecord.gz"),
        ({"pattern": "/data/*.csv"}, "source.pattern: must be relative"),
        ({"pattern": "../*.csv"}, "source.pattern: must be relative"),
        ({"pattern": "**/*.csv"}, "source.pattern: `**` would"),
        ({**POSTGRES, "query": "SELECT 1"}, "source: exactly one of `table` and `query` is needed"),
        ({**POSTGRES, "table": None}, "source: exactly one of `table` and `query` is needed"),
        ({**POSTGRES, "table": None, "query": "SELECT 1; "}, "source: `query` stands inside another query"),
        (
            {**POSTGRES, "span": "year"},
            "source.span: must be hour, day, week or month, or for an integer watermark a number",
        ),
        ({**POSTGRES, "span": 0}, "source.span: must be hour, day, week or month"),
        ({**POSTGRES, "span": True}, "source.span: must be hour, day, week or month"),
        ({**POSTGRES, "revisit": -1}, "source.revisit: "),
        ({**POSTGRES, "watermrk": "at"}, "source.watermrk: unknown key; did you mean `watermark`?"),
        ({**POSTGRES, "deleted": "forget"}, "source.deleted: only newer buckets are looked at"),
        ({**CASSANDRA, "keyspac": "x"}, "source.keyspac: unknown key; did you mean `keyspace`?"),
        ({**CASSANDRA, "late": "drop"}, "source.late: "),
        ("a folder", "source: "),
    ],
    ids=str,
)
def test_a_wrong_source_is_named_with_the_right_key_of_its_kind(source: Any, message: str) -> None:
    """The kind never stands in the path, because it does not in the file."""
    with pytest.raises(ConfigError) as refused:
        parsed(source)
    assert f"- {message}" in str(refused.value)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    """They belong in the connection; the message may end up in a log."""
    with pytest.raises(ConfigError, match="keys and endpoint stand in the connection") as refused:
        parsed({**S3, "uri": "s3://key:s3cret@lake/x"})
    assert "s3cret" not in str(refused.value) + repr(refused.value.facts)
