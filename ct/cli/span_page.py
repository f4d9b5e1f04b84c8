"""What the page of a span shows, gathered from the ledger, the runs' folders and the kept statistics."""

from __future__ import annotations

import difflib
import hashlib
import json
from typing import TYPE_CHECKING, Any

from ct.cli.found import looked_at_path, read_looked_at, validation_of
from ct.cli.training_plane import ask_training_plane
from ct.config import PipelineConfig
from ct.deploy import deployed_spec, spec_dir_of
from ct.errors import ConfigError
from ct.home import write_atomically
from ct.sources.quarantine import ROWS_KEPT_AT_LEAST
from ct.training.data_page import DataPage, Fact, QuarantinedRow, UsedBy, label_rate
from ct.training.findings import LookedAt, Validation
from ct.training.summary import SCHEMA_HASH_CHARACTERS, read_summary, statistics_path
from ct.triggers.records import SpanState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from ct.contracts import Span
    from ct.home import Home
    from ct.training.summary import FeatureSummary, SpanSummary
    from ct.triggers.ledger import Ledger
    from ct.triggers.records import RunRecord, SpanRecord

SPANS_IN_LINE = 36
ROWS_SHOWN, RAW_SHOWN, RUNS_SHOWN, EVENTS_LOOKED_AT, EVENTS_SHOWN = 200, 200, 20, 10_000, 10
BUDGET_S = 4.0
"""Of older spans that no run has seen, so many seconds are computed; with the start of TensorFlow a page then takes 12 s."""
KB = 1024
LOOKED = "looked at now; no run has validated it as its newest span"


def gather(home: Home, ledger: Ledger, pipeline: str, name: str | None, *, now: datetime) -> DataPage:
    """All that the page of a span shows. Statistics that nobody has computed yet are computed and kept.

    Args:
        home: where runs and statistics are.
        ledger: knows the spans.
        pipeline: a deployed pipeline.
        name: a span; None for the newest.
        now: the time that the page says it was made.

    Raises:
        ConfigError: the pipeline is not deployed, or no such span has landed.
    """
    spec = deployed_spec(home, pipeline)
    config = PipelineConfig.model_validate(spec.config)
    spec_dir = spec_dir_of(home, pipeline, spec.spec_hash)
    records = ledger.spans(pipeline)
    record = _find(records, name, pipeline)
    earlier = [
        each.span for each in records if each.span.name < record.span.name and each.state is not SpanState.REFUSED
    ]
    before = earlier[-1] if earlier else None
    summary_of = _reader(home, pipeline, spec_dir)
    key = _key(home, record.span, before, spec.spec_hash)
    validation, by = _validated(home, record)
    looked = read_looked_at(home, pipeline)
    if validation is None:
        validation, by = looked.validation if looked and looked.key == key else None, LOOKED
    problem = ""
    wanted = [record.span, *([before] if before else [])]
    if validation is None or any(summary_of(span) is None for span in wanted):
        others = [span for span in reversed(earlier[:-1][-SPANS_IN_LINE:]) if summary_of(span) is None]
        answer = _describe(home, spec_dir, record.span, before, others)
        problem = answer["problems"].get(record.span.name, "")
        if validation is None and answer["validation"] is not None:
            validation = Validation.model_validate(answer["validation"])
            kept = LookedAt(key=key, span=record.span.name, validation=validation)
            write_atomically(looked_at_path(home, pipeline), kept.model_dump_json())
    summary = summary_of(record.span)
    before_summary = summary_of(before) if before else None
    line = [*earlier[-SPANS_IN_LINE:], record.span]
    quarantined = _quarantined(home, record.span)
    runs = [run for run in ledger.runs(pipeline, limit=1000) if record.span.name in run.window]
    return DataPage(
        pipeline=pipeline,
        span=record.span.name,
        state=record.state.value,
        reason=record.reason,
        made_at=now,
        label=config.label,
        file=record.span.uri.rsplit("/", 1)[-1],
        summary=summary,
        problem=problem,
        before_name=before.name if before and before_summary else None,
        before=before_summary,
        label_rates=[(span.name, label_rate(summary_of(span), config.label)) for span in line],
        validation=validation,
        validated_by=by,
        thresholds={feature.name: _threshold(config, feature) for feature in summary.features} if summary else {},
        quarantined=quarantined[:ROWS_SHOWN],
        quarantined_count=len(quarantined),
        quarantined_cut=summary is None and len(quarantined) >= ROWS_KEPT_AT_LEAST,
        facts=_facts(record),
        events=_events(ledger, record.span),
        used_by=[_used_by(run, record.span.name) for run in runs[:RUNS_SHOWN]],
    )


def _find(records: Sequence[SpanRecord], name: str | None, pipeline: str) -> SpanRecord:
    if not records:
        raise ConfigError(f"No span of {pipeline} has landed yet. `ct status` says where ct looks.", pipeline=pipeline)
    if name is None:
        return records[-1]
    names = [record.span.name for record in records]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"newest: {', '.join(names[-5:])}"
        raise ConfigError(f'No span "{name}" of {pipeline} has landed; {hint}', span=name)
    return records[names.index(name)]


def _reader(home: Home, pipeline: str, spec_dir: Path) -> Callable[[Span], SpanSummary | None]:
    """Reads a span's summary as the deployed schema sees the span."""
    schema = (spec_dir / "code" / pipeline / "schema.pbtxt").read_bytes()
    schema_hash = hashlib.sha256(schema).hexdigest()[:SCHEMA_HASH_CHARACTERS]

    def read(span: Span) -> SpanSummary | None:
        return read_summary(statistics_path(home, pipeline, span.sha256, schema_hash))

    return read


def _validated(home: Home, record: SpanRecord) -> tuple[Validation | None, str]:
    """What the run that has or had the span found, if the span was its newest."""
    from ct.contracts import RunRequest  # noqa: PLC0415

    if record.run_id is None or not home.request_path(record.run_id).exists():
        return None, ""
    request = RunRequest.model_validate_json(home.request_path(record.run_id).read_text(encoding="utf-8"))
    if request.spans[-1].sha256 != record.span.sha256:
        return None, ""
    return validation_of(home, record.run_id), f"as run {record.run_id} found them"


def _key(home: Home, span: Span, before: Span | None, spec_hash: str) -> str:
    """Of everything that findings depend on: both spans, the spec, and how much serving has logged."""
    logged = sum(path.stat().st_size for path in home.predictions(span.pipeline).glob("**/*.parquet"))
    return f"{span.sha256} {before.sha256 if before else '-'} {spec_hash} {logged}"


def _describe(home: Home, spec_dir: Path, span: Span, before: Span | None, others: Sequence[Span]) -> dict[str, Any]:
    request = {
        "home": str(home.root),
        "spec_dir": str(spec_dir),
        "span": span.model_dump(mode="json"),
        "before": before.model_dump(mode="json") if before else None,
        "others": [each.model_dump(mode="json") for each in others],
        "budget_s": BUDGET_S,
    }
    return ask_training_plane("ct.training.describe", request, home)


def _threshold(config: PipelineConfig, feature: FeatureSummary) -> float:
    drift = config.validation.drift
    return drift.by_feature.get(feature.name, drift.categorical if feature.type == "string" else drift.numeric)


def _quarantined(home: Home, span: Span) -> list[QuarantinedRow]:
    path = home.quarantine(span.pipeline) / f"{span.name}.jsonl"
    if not path.exists():
        return []
    return [_quarantined_row(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _quarantined_row(row: dict[str, Any]) -> QuarantinedRow:
    place = f"line {row['line']}" if "line" in row else f"row {row['row']}"
    raw = str(row["raw"])
    shown = raw[:RAW_SHOWN] + ("..." if len(raw) > RAW_SHOWN else "")
    return QuarantinedRow(place=place, column=row["column"] or "", reason=row["reason"], raw=shown)


def _facts(record: SpanRecord) -> list[Fact]:
    span = record.span
    return [
        Fact("source", record.source_uri or span.uri),
        *([Fact("local copy", span.uri)] if record.source_uri not in (None, span.uri) else []),
        Fact("format, size", f"{span.format}, {_size(span.size_bytes)}"),
        Fact("revision", str(span.revision)),
        Fact("sha256", span.sha256),
        Fact("landed", _time(span.seen_at)),
        Fact("state", f"{record.state.value}{': ' if record.reason else ''}{record.reason}"),
    ]


def _events(ledger: Ledger, span: Span) -> list[tuple[str, str, str]]:
    events = [event for event in ledger.events(span.pipeline, limit=EVENTS_LOOKED_AT) if event.name == span.name]
    return [(_time(event.at), event.outcome.value, event.message) for event in events[:EVENTS_SHOWN]]


def _used_by(run: RunRecord, span: str) -> UsedBy:
    return UsedBy(
        run_id=run.run_id,
        status=run.status.value,
        began=_time(run.started_at),
        version=run.version,
        role="judged on" if run.window[-1] == span else "trained on",
        message=run.message,
    )


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / KB:,.0f} KB" if size_bytes < KB * KB else f"{size_bytes / KB / KB:,.1f} MB"
