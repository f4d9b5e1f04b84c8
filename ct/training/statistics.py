"""TFDV's statistics of rows, and what a page shows of them as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from ct.training.encode import one_value_lists
from ct.training.summary import Bucket, FeatureSummary, Numbers, SpanSummary, Texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

OPTIONS = tfdv.StatsOptions(num_histogram_buckets=30, epsilon=0.001)
"""Of StatisticsGen too, so that any two statistics compare. 30 bars show the shape of a distribution, TFDV's own 10 do not;
with its epsilon of 0.01 a median of 30,000 rows may be off by 300 rows."""
ROWS_A_BATCH = 8192

_TYPES = {schema_pb2.BYTES: "string", schema_pb2.INT: "int64", schema_pb2.FLOAT: "float32"}


def statistics_of(batches: Iterable[pa.RecordBatch]) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Statistics of batches whose columns are lists, one value or none a row. Memory holds a batch and distinct strings."""
    generators: list[Any] = stats_impl.get_generators(OPTIONS, in_memory=True)
    partial = [generator.create_accumulator() for generator in generators]
    for batch in batches:
        partial = [generator.add_input(state, batch) for generator, state in zip(generators, partial, strict=True)]
    return stats_impl.extract_statistics_output(partial, generators)


def encoded_batches(files: Sequence[Path], schema: schema_pb2.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of encoded files, as StatisticsGen would see them."""
    decoder = ExamplesToRecordBatchDecoder(schema.SerializeToString())
    paths = [str(path) for path in files]
    for serialized in tf.data.TFRecordDataset(paths, compression_type="GZIP").batch(ROWS_A_BATCH).as_numpy_iterator():
        yield decoder.DecodeBatch(serialized.tolist())


def as_lists(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Plain columns as `statistics_of` takes them: a list of one value or none a row."""
    return pa.RecordBatch.from_arrays([one_value_lists(column) for column in batch.columns], batch.schema.names)


def summarise(statistics: statistics_pb2.DatasetFeatureStatisticsList, schema: schema_pb2.Schema) -> SpanSummary:
    """TFDV's statistics of one dataset as plain values, in the schema's order."""
    (dataset,) = statistics.datasets
    found = by_name(statistics)
    rows = int(dataset.num_examples)
    features = (_feature(feature, found.get(feature.name), rows) for feature in schema.feature)
    return SpanSummary(rows=rows, features=tuple(features))


def by_name(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> dict[str, Any]:
    """Feature -> its FeatureNameStatistics."""
    (dataset,) = statistics.datasets
    return {feature.name or ".".join(feature.path.step): feature for feature in dataset.features}


def _feature(feature: schema_pb2.Feature, found: Any, rows: int) -> FeatureSummary:
    kind = found.WhichOneof("stats") if found is not None else None
    common = getattr(found, kind).common_stats if kind else None
    present = int(common.num_non_missing) if common else 0
    summary = FeatureSummary(name=feature.name, type=_TYPES[feature.type], present=present, missing=rows - present)
    if not present:
        return summary
    numbers = _numbers(found.num_stats) if kind == "num_stats" else None
    texts = _texts(found.string_stats) if kind == "string_stats" else None
    return summary.model_copy(update={"numbers": numbers, "texts": texts})


def _numbers(stats: Any) -> Numbers:
    standard = [histogram for histogram in stats.histograms if histogram.type == statistics_pb2.Histogram.STANDARD]
    buckets = standard[0].buckets if standard else ()
    return Numbers(
        min=stats.min,
        median=stats.median,
        max=stats.max,
        mean=stats.mean,
        std=stats.std_dev,
        zeros=int(stats.num_zeros),
        histogram=tuple(Bucket(low=b.low_value, high=b.high_value, count=b.sample_count) for b in buckets),
    )


def _texts(stats: Any) -> Texts:
    top = tuple((value.value, int(value.frequency)) for value in stats.top_values)
    return Texts(unique=int(stats.unique), top=top)
