"""`python -m ct.training.describe`: statistics and findings of spans that no run has seen yet, for `ct data`."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct.config import PipelineConfig
from ct.contracts import DeployedSpec, Span
from ct.errors import SpanRefusedError
from ct.home import Home
from ct.training.answering import answer
from ct.training.checks import Checks
from ct.training.span_statistics import SpanStatistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList


def describe(
    statistics: SpanStatistics, span: Span, before: Span | None, others: Sequence[Span], *, budget_s: float
) -> tuple[dict[str, DatasetFeatureStatisticsList], dict[str, str]]:
    """Statistics of `span` and the one before, and of the others what `budget_s` seconds are enough for.

    Returns:
        Statistics by the span's name; and of each span that cannot be read, why.
    """
    began = time.monotonic()
    found: dict[str, DatasetFeatureStatisticsList] = {}
    problems: dict[str, str] = {}
    asked = [span, *([before] if before else [])]
    for each in [*asked, *others]:
        if each not in asked and time.monotonic() - began > budget_s:
            break
        try:
            found[each.name] = statistics.of(each)
        except SpanRefusedError as error:
            problems[each.name] = str(error.facts["reason"])
    return found, problems


def _asked(request: dict[str, Any]) -> dict[str, Any]:
    home, spec_dir = Home(Path(request["home"])), Path(request["spec_dir"])
    spec = DeployedSpec.model_validate_json((spec_dir / "spec.json").read_text(encoding="utf-8"))
    config = PipelineConfig.model_validate(spec.config)
    span = Span.model_validate(request["span"])
    before = Span.model_validate(request["before"]) if request["before"] else None
    others = [Span.model_validate(each) for each in request["others"]]
    schema_path = spec_dir / "code" / spec.pipeline / "schema.pbtxt"
    statistics = SpanStatistics(home, config, schema_path, key=f"describe-{os.getpid()}")
    found, problems = describe(statistics, span, before, others, budget_s=request["budget_s"])
    if span.name not in found:
        return {"problems": problems, "validation": None}
    with tempfile.TemporaryDirectory() as folder:
        checks = Checks(config, statistics.schema, Path(folder))
        checks.keeps_schema("eval", found[span.name])
        if before and before.name in found:
            checks.drifted(found[span.name], found[before.name], against=before.name)
        checks.skewed(found[span.name], home.predictions(config.name))
    return {"problems": problems, "validation": checks.validation().model_dump(mode="json")}


if __name__ == "__main__":
    sys.exit(answer(_asked))
