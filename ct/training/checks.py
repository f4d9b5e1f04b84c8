"""The questions to a split's statistics: has each row a label, is the schema kept, did it drift, is it what serving sees?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from ct.errors import ConfigError
from ct.training import drift
from ct.training.findings import LABEL_MISSING, LOW_PRESENCE, Finding, FindingKind, Validation
from ct.training.logged import logged_rows
from ct.training.schema import columns_of
from ct.training.statistics import as_lists, by_name, statistics_of

if TYPE_CHECKING:
    from pathlib import Path

    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

    from ct.config import PipelineConfig
    from ct.validate_config import Action

MOST_NEW_VALUES = 200
"""A feature with more new values than these has no closed domain; nobody would accept them one by one."""


@dataclass
class Checks:
    """Asks TFDV, and collects what it finds; TFDV's own answers go into `folder`."""

    config: PipelineConfig
    schema: schema_pb2.Schema
    folder: Path
    against: str | None = None
    drifts: dict[str, float] = field(default_factory=dict)
    logged: int = 0
    skews: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def keeps_schema(self, split: str, statistics: DatasetFeatureStatisticsList) -> None:
        """Compare a split with the schema, and look for its label in each row, whatever the schema says of it."""
        anomalies = tfdv.validate_statistics(statistics, drift.without_comparators(self.schema))
        self._write(anomalies, f"Split-{split}/SchemaDiff.pb")
        self.findings += label_findings(split, statistics, self.config.label)
        self.findings += schema_findings(split, anomalies, statistics, self.schema, self.config)

    def drifted(
        self, statistics: DatasetFeatureStatisticsList, before: DatasetFeatureStatisticsList, *, against: str
    ) -> None:
        """Compare the newest span with the span `against`, which came before it."""
        compared = drift.drift(
            statistics,
            before,
            against=against,
            schema=self.schema,
            config=self.config.validation.drift,
            leave_out=(self.config.window.time_column,),
        )
        self._write(compared.anomalies, "drift.pb")
        self.against, self.drifts = against, compared.distances
        self.findings += compared.findings

    def skewed(self, statistics: DatasetFeatureStatisticsList, predictions: Path) -> None:
        """Compare the newest span with a prediction log, once that has `validate.skew.min_rows` rows."""
        config = self.config.validation.skew
        table = logged_rows(predictions, columns_of(self.schema))
        self.logged = table.num_rows
        if table.num_rows < config.min_rows:
            return
        compared = drift.skew(
            statistics,
            statistics_of(map(as_lists, table.to_batches())),
            rows=table.num_rows,
            schema=self.schema,
            config=config,
            leave_out=(self.config.window.time_column, self.config.label),
        )
        self._write(compared.anomalies, "skew.pb")
        self.skews = compared.distances
        self.findings += compared.findings

    def validation(self) -> Validation:
        """Everything found so far."""
        return Validation(
            against=self.against,
            drift=self.drifts,
            logged_rows=self.logged,
            skew=self.skews,
            findings=tuple(self.findings),
        )

    def _write(self, anomalies: anomalies_pb2.Anomalies, name: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(anomalies.SerializeToString())


def check_anomaly_types(config: PipelineConfig) -> None:
    """Every key of `validate.anomalies.by_type` is a type that TFDV knows.

    Raises:
        ConfigError: one is not.
    """
    unknown = sorted(set(config.validation.anomalies.by_type) - set(anomalies_pb2.AnomalyInfo.Type.keys()))
    if unknown:
        raise ConfigError(
            f"pipeline.yaml is not valid. Nothing was deployed.\n  - validate.anomalies.by_type: {', '.join(unknown)} is no "
            "type of anomaly that TFDV knows, such as ENUM_TYPE_UNEXPECTED_STRING_VALUES",
            unknown=unknown,
        )


def label_findings(split: str, statistics: DatasetFeatureStatisticsList, label: str) -> list[Finding]:
    """That rows of a split have no label: nothing can be learnt from them, and neither TFMA nor the gate can judge on them."""
    (dataset,) = statistics.datasets
    rows = int(dataset.num_examples)
    found = by_name(statistics).get(label)
    kind = None if found is None else found.WhichOneof("stats")
    present = 0 if kind is None else int(getattr(found, kind).common_stats.num_non_missing)
    if present == rows:
        return []
    return [
        Finding(
            kind=FindingKind.SCHEMA,
            action="block",
            split=split,
            feature=label,
            type=LABEL_MISSING,
            message=f"{rows - present:,} of {rows:,} rows have no label, and can be neither learnt from nor judged on",
            present=present / rows,
        )
    ]


def schema_findings(
    split: str,
    anomalies: anomalies_pb2.Anomalies,
    statistics: DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
    config: PipelineConfig,
) -> list[Finding]:
    """What TFDV says of a split and its schema, one finding a reason; without what is ignored.

    Nor how many rows have a label: `label_findings` says it, and no edit of the schema accepts fewer.
    """
    (dataset,) = statistics.datasets
    found = by_name(statistics)
    domains = {feature.name: _domain(feature, schema) for feature in schema.feature}
    reasons = [
        (name, reason) for name, info in sorted(anomalies.anomaly_info.items()) for reason in (info.reason or [info])
    ]
    reasons += [("", reason) for reason in anomalies.dataset_anomaly_info.reason]
    findings = [
        Finding(
            kind=FindingKind.SCHEMA,
            action=_action(config, kind),
            split=split,
            feature=name,
            type=kind,
            message=reason.description.strip().rstrip("."),
            **_observed(found.get(name), int(dataset.num_examples), domains.get(name)),
        )
        for name, reason in reasons
        for kind in [_type_name(reason)]
    ]
    return [
        finding
        for finding in findings
        if finding.action != "ignore" and (finding.feature, finding.type) != (config.label, LOW_PRESENCE)
    ]


def _type_name(reason: Any) -> str:
    kind = getattr(reason, "type", anomalies_pb2.AnomalyInfo.UNKNOWN_TYPE)
    return str(anomalies_pb2.AnomalyInfo.Type.Name(kind))


def _action(config: PipelineConfig, kind: str) -> Action:
    return config.validation.anomalies.by_type.get(kind, config.validation.anomalies.action)


def _domain(feature: schema_pb2.Feature, schema: schema_pb2.Schema) -> set[str] | None:
    """The values that a string feature may have; None when any."""
    if feature.domain:
        return next((set(domain.value) for domain in schema.string_domain if domain.name == feature.domain), None)
    return set(feature.string_domain.value) if feature.HasField("string_domain") else None


def _observed(found: Any, rows: int, domain: set[str] | None) -> dict[str, Any]:
    """What a person needs to know to accept a finding."""
    kind = found.WhichOneof("stats") if found is not None else None
    if kind is None:
        return {}
    values: dict[str, Any] = {"present": getattr(found, kind).common_stats.num_non_missing / rows if rows else None}
    if kind == "num_stats":
        values |= {"low": found.num_stats.min, "high": found.num_stats.max}
    if kind == "string_stats" and domain is not None:
        seen = [bucket.label for bucket in found.string_stats.rank_histogram.buckets]
        values["new_values"] = tuple(sorted(set(seen) - domain))[:MOST_NEW_VALUES]
    return values
