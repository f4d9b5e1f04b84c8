"""PostgreSQL as a source where no server is needed; tests/integration/sources has the rest."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from ct.errors import SourceError
from ct.source_config import PostgresSourceConfig
from ct.sources import postgres
from ct.sources.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator


class Dying:
    """A cursor whose server dies while rows come in."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def execute(self, sql: str) -> None:
        """The server still answers."""

    def fetch_record_batch(self) -> pa.RecordBatchReader:
        """A table with a time."""
        at = pa.field("at", pa.timestamp("us"), metadata={"POSTGRESQL:type": "timestamp"})
        return pa.RecordBatchReader.from_batches(pa.schema([at]), [])

    def fetch_arrow_table(self) -> pa.Table:
        """And is gone."""
        raise self._error


@pytest.mark.parametrize("error", [OSError("[libpq] server closed the connection"), pa.ArrowInvalid("[libpq] s3cret")])
def test_a_server_that_dies_in_the_middle_of_a_look_is_a_source_error(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Arrow's own exceptions do not leak, nor does a secret with them."""

    @contextmanager
    def reading(connection: Connection, uri: str) -> Iterator[Dying]:
        yield Dying(error)

    monkeypatch.setattr(postgres, "reading", reading)
    config = PostgresSourceConfig(kind="postgres", connection="warehouse", table="flights", watermark="at")
    source = postgres.PostgresSource(config, Connection("warehouse", "postgres", "db.example", password="s3cret"))
    with pytest.raises(SourceError, match=r"Cannot read postgresql://db\.example:5432//flights: \[libpq\]") as refused:
        source.look(None)
    assert "s3cret" not in str(refused.value)
