"""Statistics of spans against pandas, and where they are kept. What runs TensorFlow runs in a fork."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tiny_run import NOW, TINY, in_fork, write_span

from ct.config import load_pipeline_config
from ct.contracts import Span
from ct.home import Home
from ct.sources.arrival import sha256_of
from ct.training.charts import histogram
from ct.training.describe import describe
from ct.training.span_statistics import SpanStatistics
from ct.training.statistics import as_lists, statistics_of, summarise

if TYPE_CHECKING:
    from pathlib import Path

    from ct.training.summary import SpanSummary

ROWS = 20_000
SCHEMA = text_format.Parse(
    """
    feature { name: "size" type: FLOAT }
    feature { name: "day" type: INT }
    feature { name: "kind" type: BYTES }
    feature { name: "empty" type: FLOAT }
    """,
    schema_pb2.Schema(),
)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Rows with gaps, a long tail, and a column without any value."""
    numbers = np.random.default_rng(3)
    size = pd.Series(numbers.exponential(50, ROWS), dtype="float32")
    size[numbers.random(ROWS) < 0.1] = None
    kind = pd.Series(numbers.choice(["a", "b", "<c>", None], ROWS, p=[0.5, 0.3, 0.15, 0.05]), dtype="object")
    return pd.DataFrame({"size": size, "day": numbers.integers(0, 7, ROWS), "kind": kind})


@pytest.fixture(scope="module")
def summary(rows: pd.DataFrame) -> SpanSummary:
    """What ct says of them, read in several batches."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    table = table.append_column("empty", pa.nulls(ROWS, pa.float32()))
    return summarise(statistics_of(map(as_lists, table.to_batches(max_chunksize=3000))), SCHEMA)


def test_moments_and_gaps_are_those_of_pandas(rows: pd.DataFrame, summary: SpanSummary) -> None:
    """Rows, missing values, least, largest, mean and standard deviation are exact."""
    assert summary.rows == ROWS
    for name in ("size", "day"):
        feature, expected = summary.feature(name), rows[name].dropna().astype("float64")
        assert feature
        assert feature.numbers
        assert (feature.present, feature.missing) == (len(expected), ROWS - len(expected))
        assert (feature.numbers.min, feature.numbers.max) == (expected.min(), expected.max())
        assert feature.numbers.mean == pytest.approx(expected.mean(), rel=1e-9)
        assert feature.numbers.std == pytest.approx(expected.std(ddof=0), rel=1e-9)
        assert feature.numbers.zeros == (expected == 0).sum()


def test_median_is_within_a_thousandth_of_the_rows(rows: pd.DataFrame, summary: SpanSummary) -> None:
    """TFDV's sketch is as fine as the page says."""
    for name in ("size", "day"):
        feature, values = summary.feature(name), rows[name].dropna()
        assert feature
        assert feature.numbers
        below, up_to = (values < feature.numbers.median).mean(), (values <= feature.numbers.median).mean()
        assert below - 0.001 <= 0.5 <= up_to + 0.001


def test_histogram_is_that_of_numpy(rows: pd.DataFrame, summary: SpanSummary) -> None:
    """Each of the 30 bars holds what numpy counts between its ends, give or take a thousandth of the rows for each end."""
    feature, values = summary.feature("size"), rows["size"].dropna()
    assert feature
    assert feature.numbers
    buckets = feature.numbers.histogram
    counts, _ = np.histogram(values, [buckets[0].low, *(bucket.high for bucket in buckets)])
    assert len(buckets) == 30
    assert sum(bucket.count for bucket in buckets) == pytest.approx(len(values))
    assert [bucket.count for bucket in buckets] == pytest.approx(counts, abs=0.002 * len(values))


def test_bars_of_few_integers_are_the_counts_of_pandas(rows: pd.DataFrame, summary: SpanSummary) -> None:
    """A bucket is narrower than 1, so every weekday has a bar of its own."""
    feature = summary.feature("day")
    assert feature
    told = re.findall(r"<title>(\d): ([\d.]+) %</title>", str(histogram(feature, None)))
    expected = rows["day"].value_counts(normalize=True).sort_index() * 100
    assert [int(day) for day, _ in told] == list(range(7))
    assert [float(percent) for _, percent in told] == pytest.approx(expected.to_list(), abs=0.2)


def test_values_are_counted_as_pandas_counts_them(rows: pd.DataFrame, summary: SpanSummary) -> None:
    """Most frequent first."""
    feature = summary.feature("kind")
    assert feature
    assert feature.texts
    assert dict(feature.texts.top) == rows["kind"].value_counts().to_dict()
    assert [value for value, _ in feature.texts.top] == ["a", "b", "<c>"]
    assert feature.texts.unique == 3
    assert feature.missing == rows["kind"].isna().sum()


def test_column_without_values_is_all_missing(summary: SpanSummary) -> None:
    """There is nothing to draw, and nothing fails."""
    feature = summary.feature("empty")
    assert feature
    assert (feature.present, feature.missing, feature.numbers, feature.texts) == (0, ROWS, None, None)


@pytest.fixture
def kept(tmp_path: Path) -> SpanStatistics:
    """Statistics of tiny spans in a home of their own."""
    config = load_pipeline_config(TINY)
    return SpanStatistics(Home(tmp_path / "home").create(), config, TINY / "schema.pbtxt", key="test")


def span_of(path: Path) -> Span:
    """The span of a CSV file."""
    return Span(
        pipeline="tiny",
        name=path.stem,
        revision=1,
        sha256=sha256_of(path),
        uri=str(path),
        format="csv",
        size_bytes=path.stat().st_size,
        seen_at=NOW,
    )


def test_statistics_of_a_span_are_computed_once(kept: SpanStatistics, tmp_path: Path) -> None:
    """The second time the file is not needed any more."""
    path = write_span(tmp_path / "2013-01.csv", month=1)
    span = span_of(path)
    first = in_fork(lambda: kept.of(span).SerializeToString())
    path.unlink()
    assert kept.of(span).SerializeToString() == first
    assert kept.of(span).datasets[0].num_examples == 300


def test_changed_bytes_are_not_taken_for_the_span(kept: SpanStatistics, tmp_path: Path) -> None:
    """Nothing is kept under the hash of other bytes; the span that asked is told, the one before is described."""
    changed, good = write_span(tmp_path / "2013-02.csv", month=2), write_span(tmp_path / "2013-01.csv", month=1)
    span = span_of(changed)
    write_span(changed, month=3)

    def ask() -> tuple[list[str], dict[str, str]]:
        found, problems = describe(kept, span, span_of(good), (), budget_s=0)
        return list(found), problems

    found, problems = in_fork(ask)
    assert found == ["2013-01"]
    assert "its bytes changed after they landed" in problems["2013-02"]
