"""A span as a page of HTML: one file, no script, nothing from the network. Everything that comes from data is escaped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  the template calls its methods
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct.training import charts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from ct.training.findings import Finding, Validation
    from ct.training.summary import FeatureSummary, SpanSummary

TEMPLATE = "data_page.html"
TOP_VALUES_SHOWN = 8


@dataclass(frozen=True)
class Fact:
    """A line of `where it came from`."""

    name: str
    value: str


@dataclass(frozen=True)
class QuarantinedRow:
    """A row that the reader left out."""

    place: str
    """`line 17` or `row 17`."""
    column: str
    reason: str
    raw: str


@dataclass(frozen=True)
class UsedBy:
    """A run that had the span in its window."""

    run_id: str
    status: str
    began: str
    version: int | None
    role: str
    """What the span was in it: judged on, or trained on."""
    message: str


@dataclass(frozen=True)
class DataPage:
    """All that a page shows."""

    pipeline: str
    span: str
    state: str
    reason: str
    made_at: datetime
    label: str
    file: str
    summary: SpanSummary | None
    """None when the span cannot be read; `problem` says why."""
    problem: str
    before_name: str | None
    before: SpanSummary | None
    label_rates: Sequence[tuple[str, float | None]]
    """Span -> share of positive labels, oldest first; None where no statistics are known."""
    validation: Validation | None
    validated_by: str
    thresholds: dict[str, float]
    """Feature -> the distance from which it counts as drifted."""
    quarantined: Sequence[QuarantinedRow]
    quarantined_count: int
    quarantined_cut: bool
    """True when the reader kept only the first bad rows of a span that it refused."""
    facts: Sequence[Fact]
    events: Sequence[tuple[str, str, str]]
    """When, what and more, newest first."""
    used_by: Sequence[UsedBy]


@dataclass(frozen=True)
class _Value:
    """A frequent value of a string feature."""

    value: str
    share: float
    before: float | None
    is_new: bool


def render(page: DataPage) -> str:
    """The page. Rendering the same twice gives the same."""
    import jinja2  # noqa: PLC0415  a page is the only thing that needs it

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": charts.percent, "number": charts.number}
    return environment.get_template(TEMPLATE).render(
        page=page, cards=_cards(page), rates=_rates(page), rate=label_rate(page.summary, page.label), **_totals(page)
    )


def label_rate(summary: SpanSummary | None, label: str) -> float | None:
    """The share of rows whose label is 1; None for a label that is not 0 or 1."""
    numbers = feature.numbers if summary and (feature := summary.feature(label)) else None
    return numbers.mean if numbers and numbers.min >= 0 and numbers.max <= 1 else None


def _rates(page: DataPage) -> Markup | None:
    known = [rate for _, rate in page.label_rates if rate is not None]
    return charts.line(page.label_rates, page.span) if known else None


def _totals(page: DataPage) -> dict[str, Any]:
    summary = page.summary
    cells = summary.rows * len(summary.features) if summary else 0
    missing = sum(feature.missing for feature in summary.features) if summary else 0
    rows_before = page.before.rows if page.before else 0
    return {
        "missing_share": missing / cells if cells else 0.0,
        "rows_change": (summary.rows - rows_before) / rows_before if summary and rows_before else None,
        "rate_before": label_rate(page.before, page.label),
        "unknown_rates": sum(rate is None for _, rate in page.label_rates),
    }


def _cards(page: DataPage) -> list[dict[str, Any]]:
    """A card a column: those with findings first, then the label, then as the schema has them."""
    if page.summary is None:
        return []
    findings = page.validation.findings if page.validation else ()
    cards = [
        _card(page, feature, [each for each in findings if each.feature == feature.name])
        for feature in page.summary.features
    ]
    return sorted(cards, key=lambda card: (not card["findings"], card["now"].name != page.label))


def _card(page: DataPage, feature: FeatureSummary, findings: list[Finding]) -> dict[str, Any]:
    before = page.before.feature(feature.name) if page.before else None
    validation = page.validation
    return {
        "now": feature,
        "before": before,
        "findings": findings,
        "histogram": charts.histogram(feature, before) if feature.numbers else None,
        "values": _values(feature, before, findings) if feature.texts else [],
        "drift": validation.drift.get(feature.name) if validation else None,
        "skew": validation.skew.get(feature.name) if validation else None,
        "threshold": page.thresholds.get(feature.name),
        "rows": _rows(feature, before),
        **_ends(feature, before),
    }


def _ends(feature: FeatureSummary, before: FeatureSummary | None) -> dict[str, str]:
    """The ends of the axis that both histograms share."""
    both = [each.numbers for each in (feature, before) if each and each.numbers]
    if not feature.numbers:
        return {}
    return {"low": charts.number(min(each.min for each in both)), "high": charts.number(max(each.max for each in both))}


def _rows(feature: FeatureSummary, before: FeatureSummary | None) -> list[tuple[str, str, str]]:
    """The lines of a card's table: what, in this span, in the span before."""
    lines = {"missing": (_missing(feature), _missing(before))}
    if feature.numbers:
        then = before.numbers if before else None
        for name in ("min", "median", "mean", "max", "std"):
            lines[name] = (
                charts.number(getattr(feature.numbers, name)),
                charts.number(getattr(then, name)) if then else "",
            )
    elif feature.texts:
        unique = before.texts.unique if before and before.texts else None
        lines["different values"] = (f"{feature.texts.unique:,}", "" if unique is None else f"{unique:,}")
    return [(name, now, then) for name, (now, then) in lines.items()]


def _missing(feature: FeatureSummary | None) -> str:
    if feature is None:
        return ""
    rows = feature.present + feature.missing
    return charts.percent(feature.missing / rows) if rows else ""


def _values(feature: FeatureSummary, before: FeatureSummary | None, findings: list[Finding]) -> list[_Value]:
    if feature.texts is None:
        return []
    new = {value for finding in findings for value in finding.new_values}
    then = before.texts if before else None
    known = dict(then.top) if then else {}
    complete = then is not None and then.unique == len(then.top)
    present_before = before.present if before else 0

    def share_before(value: str) -> float | None:
        if value not in known and not complete:
            return None
        return known.get(value, 0) / present_before if present_before else None

    shown = feature.texts.top[:TOP_VALUES_SHOWN]
    return [_Value(value, count / feature.present, share_before(value), value in new) for value, count in shown]
