"""Statistics of whole spans of a pipeline, computed once for each content and kept.

On disk::

    artifacts/<pipeline>/statistics/
      <sha256>-<schema hash>.pb     TFDV's DatasetFeatureStatisticsList
      <sha256>-<schema hash>.json   ct.training.summary.SpanSummary: written last
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from ct.home import write_atomically
from ct.training.encode import ready_part
from ct.training.encode_span import SpanEncoder
from ct.training.schema import columns_of, read_schema
from ct.training.statistics import encoded_batches, statistics_of, summarise
from ct.training.summary import SCHEMA_HASH_CHARACTERS, statistics_path

if TYPE_CHECKING:
    from ct.config import PipelineConfig
    from ct.contracts import Span
    from ct.home import Home


class SpanStatistics:
    """The kept statistics of one pipeline's spans, as one schema sees them.

    Args:
        home: where encoded spans and statistics are.
        config: the pipeline.
        schema_path: its schema.pbtxt.
        key: names unfinished files; another one for each process.
    """

    def __init__(self, home: Home, config: PipelineConfig, schema_path: Path, *, key: str) -> None:
        self.schema = read_schema(schema_path)
        self._home = home
        self._pipeline = config.name
        self._schema_hash = hashlib.sha256(schema_path.read_bytes()).hexdigest()[:SCHEMA_HASH_CHARACTERS]
        self._encoder = SpanEncoder(
            columns_of(self.schema),
            max_bad_rows=config.source.max_bad_rows,
            quarantine_to=home.quarantine(config.name),
            key=key,
        )

    def of(self, span: Span) -> DatasetFeatureStatisticsList:
        """Those that were kept; else computed from the encoded span, which is encoded where no run has done so yet.

        Raises:
            SpanRefusedError: it cannot be read as the schema asks, or is not what landed any more.
        """
        path = self._path(span)
        if path.with_suffix(".json").exists():
            return DatasetFeatureStatisticsList.FromString(path.read_bytes())
        folder = self._home.artifacts(self._pipeline) / "spans" / f"{path.stem}-all"
        part = ready_part(folder) or self._encoder.whole(span, folder)
        computed = statistics_of(encoded_batches(part.files, self.schema))
        self.keep(span, computed)
        return computed

    def keep(self, span: Span, statistics: DatasetFeatureStatisticsList) -> None:
        """Keep statistics that were computed elsewhere. Keeping them again replaces them with the same."""
        path = self._path(span)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(statistics.SerializeToString())
        Path(file.name).replace(path)
        write_atomically(path.with_suffix(".json"), summarise(statistics, self.schema).model_dump_json())

    def _path(self, span: Span) -> Path:
        return statistics_path(self._home, self._pipeline, span.sha256, self._schema_hash)
