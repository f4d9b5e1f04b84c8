"""From a source block to a source: the right one, or an error that says what is wrong with its connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ct.config import PipelineConfig, parse_pipeline_config
from ct.errors import SourceError
from ct.home import Home
from ct.sources.connection import Connection
from ct.sources.folder import FolderSource
from ct.sources.opening import connection_id, open_source

if TYPE_CHECKING:
    from pathlib import Path

KINDS: dict[str, dict[str, Any]] = {
    "aws": {"kind": "s3", "uri": "s3://lake/x", "connection": "there"},
    "postgres": {"kind": "postgres", "connection": "there", "table": "t", "watermark": "at"},
    "cassandra": {"kind": "cassandra", "connection": "there", "keyspace": "k", "table": "t", "bucket": "b"},
    "kafka": {"kind": "kafka", "connection": "there", "topic": "t"},
    "redis": {"kind": "redis", "connection": "there", "stream": "s"},
}


def config(source: dict[str, Any]) -> PipelineConfig:
    """A pipeline with this source."""
    least = {"name": "trips", "description": "d", "owner": "o", "label": "late", "window": {"time_column": "t"}}
    return parse_pipeline_config({**least, "gate": {"threshold": 0.6}, "source": source}, where="pipeline.yaml")


def test_a_folder_needs_no_connection(tmp_path: Path) -> None:
    """Relative folders begin in CT_HOME."""
    folder = config({"path": "samples", "pattern": "*/data.csv"})
    assert connection_id(folder.source) is None
    source = open_source(folder, Home(tmp_path), None)
    assert isinstance(source, FolderSource)
    assert source.path == tmp_path / "samples"


@pytest.mark.parametrize("is_generic", [False, True])
@pytest.mark.parametrize("conn_type", KINDS)
def test_a_connection_of_the_right_type_opens_a_source(tmp_path: Path, conn_type: str, *, is_generic: bool) -> None:
    """Nothing is connected to before the first look. Airflow's UI knows some types as `generic` only."""
    remote = config(KINDS[conn_type])
    assert connection_id(remote.source) == "there"
    connection = Connection("there", "generic" if is_generic else conn_type, "nowhere.invalid")
    source = open_source(remote, Home(tmp_path), connection)
    assert source.keeps == (conn_type == "aws")


@pytest.mark.parametrize("conn_type", KINDS)
def test_a_missing_connection_is_named(tmp_path: Path, conn_type: str) -> None:
    """With where to add it."""
    with pytest.raises(SourceError, match=r'connection "there" does not exist.*Admin, Connections'):
        open_source(config(KINDS[conn_type]), Home(tmp_path), None)


@pytest.mark.parametrize("conn_type", KINDS)
def test_a_connection_of_another_type_is_named(tmp_path: Path, conn_type: str) -> None:
    """With the type that it should have."""
    with pytest.raises(SourceError, match=rf'"there" is of type http; .* needs type {conn_type}'):
        open_source(config(KINDS[conn_type]), Home(tmp_path), Connection("there", "http"))


def test_s3_without_a_connection_uses_the_default_chain(tmp_path: Path) -> None:
    """Environment, files, or the machine's role."""
    remote = config({"kind": "s3", "uri": "s3://lake/x"})
    assert connection_id(remote.source) is None
    assert open_source(remote, Home(tmp_path), None).keeps
