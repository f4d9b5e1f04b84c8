"""A span's statistics as plain values: what a page shows, in every plane, without TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ct.contracts import Value

if TYPE_CHECKING:
    from pathlib import Path

    from ct.home import Home

SCHEMA_HASH_CHARACTERS = 12


class Bucket(Value):
    """A bar of a histogram."""

    low: float
    high: float
    count: float


class Numbers(Value):
    """Of a numeric feature's values that are there."""

    min: float
    median: float = Field(description="Within a thousandth of the rows of the true one.")
    max: float
    mean: float
    std: float = Field(description="Of the population, as TFDV computes it.")
    zeros: int
    histogram: tuple[Bucket, ...] = Field(description="Buckets of equal width from min to max.")


class Texts(Value):
    """Of a string feature's values that are there."""

    unique: int
    top: tuple[tuple[str, int], ...] = Field(description="The most frequent values with their counts, at most 20.")


class FeatureSummary(Value):
    """One column of a span; `numbers` or `texts` is set, and neither when no row has a value."""

    name: str
    type: str = Field(description="`string`, `int64` or `float32`.")
    present: int = Field(ge=0, description="Rows with a value.")
    missing: int = Field(ge=0)
    numbers: Numbers | None = None
    texts: Texts | None = None


class SpanSummary(Value):
    """A span in numbers."""

    rows: int = Field(ge=0)
    features: tuple[FeatureSummary, ...]

    def feature(self, name: str) -> FeatureSummary | None:
        """One column, or None."""
        return next((feature for feature in self.features if feature.name == name), None)


def statistics_path(home: Home, pipeline: str, sha256: str, schema_hash: str) -> Path:
    """Where TFDV's statistics of a span's bytes are kept; SpanSummary stands beside, ending in `.json`."""
    return home.artifacts(pipeline) / "statistics" / f"{sha256}-{schema_hash}.pb"


def read_summary(statistics: Path) -> SpanSummary | None:
    """The summary beside a statistics file; None when the span's statistics were not computed yet."""
    path = statistics.with_suffix(".json")
    return SpanSummary.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else None
