"""Data against data: drift from the span before, and skew from what serving logged. TFDV measures, pipeline.yaml judges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from ct.training.findings import Finding, FindingKind
from ct.training.statistics import by_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

    from ct.validate_config import DistanceConfig

_Measurement = anomalies_pb2.DriftSkewInfo.Measurement
MEASURES = {
    _Measurement.L_INFTY: "L-infinity distance",
    _Measurement.JENSEN_SHANNON_DIVERGENCE: "Jensen-Shannon divergence",
}
MOST_CHANGED = "The feature value with maximum difference is: "
"""What TFDV writes before the value whose share changed most."""


@dataclass(frozen=True)
class Comparison:
    """Two distributions of each feature, compared."""

    distances: dict[str, float]
    """Feature -> L-infinity distance or Jensen-Shannon divergence, 0 to 1."""
    findings: tuple[Finding, ...]
    anomalies: anomalies_pb2.Anomalies
    """What TFDV said, whatever the action."""


def drift(
    statistics: DatasetFeatureStatisticsList,
    before: DatasetFeatureStatisticsList,
    *,
    against: str,
    schema: schema_pb2.Schema,
    config: DistanceConfig,
    leave_out: tuple[str, ...],
) -> Comparison:
    """The newest span compared with the span `against`.

    Args:
        statistics: of the newest span.
        before: of the span before it.
        against: the name of that span.
        schema: which features there are; its own drift comparators count before the defaults.
        config: `validate.drift`.
        leave_out: features that move by nature, such as time.
    """

    def comparator(feature: schema_pb2.Feature) -> schema_pb2.FeatureComparator:
        return feature.drift_comparator

    compared = _with_thresholds(schema, _common(statistics, before, leave_out), config, comparator)
    anomalies = tfdv.validate_statistics(statistics, compared, previous_statistics=before)
    return _judged(anomalies, FindingKind.DRIFT, config, f"span {against}")


def skew(
    statistics: DatasetFeatureStatisticsList,
    logged: DatasetFeatureStatisticsList,
    *,
    rows: int,
    schema: schema_pb2.Schema,
    config: DistanceConfig,
    leave_out: tuple[str, ...],
) -> Comparison:
    """The newest span compared with `rows` logged requests; features that requests do not carry are left out."""

    def comparator(feature: schema_pb2.Feature) -> schema_pb2.FeatureComparator:
        return feature.skew_comparator

    compared = _with_thresholds(schema, _common(statistics, logged, leave_out), config, comparator)
    anomalies = tfdv.validate_statistics(statistics, compared, serving_statistics=logged)
    return _judged(anomalies, FindingKind.SKEW, config, f"the {rows:,} rows that serving logged")


def without_comparators(schema: schema_pb2.Schema) -> schema_pb2.Schema:
    """The schema with everything that compares datasets taken out."""
    plain = schema_pb2.Schema()
    plain.CopyFrom(schema)
    for feature in plain.feature:
        feature.ClearField("drift_comparator")
        feature.ClearField("skew_comparator")
    return plain


def _common(
    one: DatasetFeatureStatisticsList, other: DatasetFeatureStatisticsList, leave_out: tuple[str, ...]
) -> set[str]:
    return (by_name(one).keys() & by_name(other).keys()) - set(leave_out)


def _with_thresholds(
    schema: schema_pb2.Schema,
    features: set[str],
    config: DistanceConfig,
    comparator: Callable[[schema_pb2.Feature], schema_pb2.FeatureComparator],
) -> schema_pb2.Schema:
    compared = without_comparators(schema)
    for feature, own in zip(compared.feature, schema.feature, strict=True):
        if feature.name not in features:
            continue
        chosen = comparator(feature)
        given = config.by_feature.get(feature.name)
        if given is None and comparator(own).ByteSize():
            chosen.CopyFrom(comparator(own))
        elif feature.type == schema_pb2.BYTES:
            chosen.infinity_norm.threshold = given or config.categorical
        else:
            chosen.jensen_shannon_divergence.threshold = given or config.numeric
    return compared


def _judged(anomalies: anomalies_pb2.Anomalies, kind: FindingKind, config: DistanceConfig, other: str) -> Comparison:
    """TFDV repeats what breaks the schema; only what a comparator said is this comparison's."""
    side = f"{kind.value}_measurements"
    measured = {info.path.step[0]: getattr(info, side)[0] for info in anomalies.drift_skew_info}
    findings = [
        Finding(
            kind=kind,
            action=config.action,
            split="eval",
            feature=name,
            type=anomalies_pb2.AnomalyInfo.Type.Name(reason.type),
            message=_message(measured.get(name), reason.description, other),
        )
        for name, info in sorted(anomalies.anomaly_info.items())
        for reason in info.reason
        if anomalies_pb2.AnomalyInfo.Type.Name(reason.type).startswith("COMPARATOR_")
    ]
    distances = {name: measurement.value for name, measurement in measured.items()}
    return Comparison(distances, () if config.action == "ignore" else tuple(findings), anomalies)


def _message(measurement: Any, said: str, other: str) -> str:
    if measurement is None or measurement.type not in MEASURES:
        return f"compared with {other}: {said.strip()}"
    _, _, most = said.partition(MOST_CHANGED)
    told = f'; the share of "{most.strip().rstrip(".")}" changed most' if most else ""
    value = f"{measurement.value:.3f} from {other}, above {measurement.threshold:g}"
    return f"{MEASURES[measurement.type]} {value}{told}"
