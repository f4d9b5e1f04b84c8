"""The page of a span: what it shows, and that nothing in the data can change what it is."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timezone
from html.parser import HTMLParser

import pytest

from ct.training import charts
from ct.training.data_page import DataPage, Fact, QuarantinedRow, UsedBy, label_rate, render
from ct.training.findings import Finding, FindingKind, Validation
from ct.training.summary import Bucket, FeatureSummary, Numbers, SpanSummary, Texts

EVIL = "<script>alert(1)</script>\"'&"


def numbers(low: float, high: float, *counts: float, mean: float = 0.0) -> Numbers:
    """Numbers with a histogram of equal buckets."""
    width = (high - low) / len(counts)
    buckets = tuple(
        Bucket(low=low + index * width, high=low + (index + 1) * width, count=count)
        for index, count in enumerate(counts)
    )
    return Numbers(min=low, median=low, max=high, mean=mean, std=1.5, zeros=0, histogram=buckets)


def summary(
    rows: int = 100, late: float = 0.25, *, top: tuple[tuple[str, int], ...] = (("ATL", 60), (EVIL, 30))
) -> SpanSummary:
    """A span of three columns; `dest` lacks ten values."""
    return SpanSummary(
        rows=rows,
        features=(
            FeatureSummary(
                name="dest", type="string", present=90, missing=rows - 90, texts=Texts(unique=len(top), top=top)
            ),
            FeatureSummary(
                name="temp", type="float32", present=rows, missing=0, numbers=numbers(-10, 30, 20, 80, mean=12.5)
            ),
            FeatureSummary(
                name="late", type="int64", present=rows, missing=0, numbers=numbers(0, 1, 75, 25, mean=late)
            ),
        ),
    )


NEW = Finding(
    kind=FindingKind.SCHEMA,
    action="block",
    split="eval",
    feature="dest",
    type="ENUM_TYPE_UNEXPECTED_STRING_VALUES",
    message=f"Examples contain values missing from the schema: {EVIL}",
    new_values=(EVIL,),
)
DRIFT = Finding(
    kind=FindingKind.DRIFT,
    action="warn",
    split="eval",
    feature="temp",
    type="COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH",
    message="Jensen-Shannon divergence 0.364 from span 2013-03, above 0.3",
)
PAGE = DataPage(
    pipeline="trips",
    span="2013-04",
    state="trained",
    reason="",
    made_at=datetime(2013, 5, 1, 12, 30, tzinfo=timezone.utc),
    label="late",
    file=f"2013-04{EVIL}.csv",
    summary=summary(),
    problem="",
    before_name="2013-03",
    before=summary(rows=125, late=0.2, top=(("ATL", 90),)),
    label_rates=[("2013-02", None), ("2013-03", 0.2), ("2013-04", 0.25)],
    validation=Validation(against="2013-03", drift={"temp": 0.364, "dest": 0.01}, findings=(NEW, DRIFT)),
    validated_by="as run trips-1 found them",
    thresholds={"temp": 0.3, "dest": 0.1, "late": 0.3},
    quarantined=[QuarantinedRow(place="line 17", column=EVIL, reason=EVIL, raw=EVIL)],
    quarantined_count=1,
    quarantined_cut=False,
    facts=[Fact("source", f"file:///{EVIL}")],
    events=[("2013-05-01 12:00", "new", EVIL)],
    used_by=[
        UsedBy(run_id="trips-1", status="approved", began="2013-05-01 12:10", version=3, role="judged on", message=EVIL)
    ],
)


class Page(HTMLParser):
    """The page as a browser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count the tag, and note what it would load."""
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data: str) -> None:
        """Collect what a person reads."""
        self.text += data + " "

    @property
    def words(self) -> str:
        """The text with single spaces."""
        return re.sub(r"\s+", " ", self.text)


def test_data_cannot_become_markup() -> None:
    """A value, a column, a reason, a file name: each is shown as it is, and none opens a tag."""
    page = Page(render(PAGE))
    assert "script" not in page.tags
    assert page.words.count("<script>alert(1)</script>") >= 8


def test_page_needs_nothing_from_the_network() -> None:
    """No address to load, no style sheet or font from elsewhere."""
    text = render(PAGE)
    assert Page(text).addresses == []
    assert not re.search(r"https?://|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_numbers_stand_beside_those_of_the_span_before() -> None:
    """Rows and their change, missing values, label rate, and a column's numbers."""
    words = Page(render(PAGE)).words
    assert "rows 100 -20.0 % from 2013-03" in words
    assert "missing values 3.3 % of all cells" in words
    assert "late 25.0 % 20.0 % in 2013-03" in words
    assert "missing 10.0 % 28.0 % different values 2 1" in words
    assert "min -10 -10" in words
    assert "mean 12.5 12.5" in words
    assert "std 1.5 1.5" in words
    assert "1 of 3 spans have no statistics yet" in words


def test_values_are_shares_of_the_rows_with_a_value() -> None:
    """60 of 90; a new one is marked, and had no share before, where all values of then are known."""
    words = Page(render(PAGE)).words
    assert "ATL 66.7 % 100.0 %" in words
    assert f"{EVIL} new 33.3 % 0 %" in words


def test_findings_carry_action_and_command() -> None:
    """What can be accepted names the command, what drifted names the setting."""
    words = Page(render(PAGE)).words
    assert (
        f"block dest schema Examples contain values missing from the schema: {EVIL} ct schema trips accept {NEW.id}"
        in words
    )
    assert "warn temp drift Jensen-Shannon divergence 0.364" in words
    assert "Raise validate.drift.by_feature.temp in pipeline.yaml" in words
    assert "drift 0.364" in words


def test_quarantine_and_runs_are_listed() -> None:
    """Where each bad row is, and which run used the span."""
    words = Page(render(PAGE)).words
    assert f"line 17 {EVIL} {EVIL} {EVIL}" in words
    assert "trips-1 2013-05-01 12:10 judged on approved 3" in words


def test_span_that_cannot_be_read_still_has_a_page() -> None:
    """With the reason and the bad rows."""
    words = Page(render(replace(PAGE, summary=None, problem="line 17: bad", validation=None, state="refused"))).words
    assert "It cannot be read: line 17: bad" in words
    assert "line 17" in words
    assert "Columns" not in words


def test_first_span_stands_alone() -> None:
    """Nothing to compare with is said, not shown as zero."""
    alone = replace(PAGE, before=None, before_name=None, label_rates=[("2013-04", 0.25)], validation=Validation())
    words = Page(render(alone)).words
    assert "rows 100 first span" in words
    assert "There is no span before it to measure drift against." in words
    assert "The data agrees with the schema." in words


def test_label_rate_is_of_labels_of_zero_and_one() -> None:
    """Anything else has none."""
    assert label_rate(summary(late=0.25), "late") == 0.25
    assert label_rate(summary(), "temp") is None
    assert label_rate(summary(), "dest") is None
    assert label_rate(None, "late") is None


def test_integers_have_a_bar_each() -> None:
    """Thirty buckets of a weekday become seven bars."""
    counts = [0.0] * 30
    for day in range(7):
        counts[min(29, day * 5)] = float(day + 1)
    day = FeatureSummary(name="day", type="int64", present=28, missing=0, numbers=numbers(0, 6, *counts))
    svg = str(charts.histogram(day, None))
    shares = re.findall(r"<title>(.*?)</title>", svg)
    assert shares == [f"{value}: {charts.percent((value + 1) / 28)}" for value in range(7)]


def test_constant_column_has_one_bar() -> None:
    """Its histogram has no width."""
    flat = FeatureSummary(name="flat", type="float32", present=5, missing=0, numbers=numbers(2.5, 2.5, 5))
    assert str(charts.histogram(flat, None)).count("<rect") == 1


def test_gap_in_the_line_is_no_line() -> None:
    """A span without statistics breaks it."""
    svg = str(charts.line([("a", 0.1), ("b", None), ("c", 0.3), ("d", 0.2)], "d"))
    (path,) = re.findall(r'class="line" d="(.*?)"', svg)
    assert [part[0] for part in re.findall(r"[ML][\d. ]+", path)] == ["M", "M", "L"]
    assert svg.count("<circle") == 3
    assert "20.0 %" in svg


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (0.00001, "<0.01 %"), (0.0012, "0.12 %"), (0.25, "25.0 %"), (1, "100.0 %")]
)
def test_small_share_is_not_told_as_none(share: float, text: str) -> None:
    """Three new rows among thousands are some."""
    assert charts.percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1439.0, "1,439"), (0.001574, "0.001574"), (37.3658, "37.37"), (1047.83, "1,047.8"), (-5.0, "-5")],
)
def test_numbers_have_the_digits_that_are_compared(value: float, text: str) -> None:
    """Whole numbers whole, the others with four digits."""
    assert charts.number(value) == text
