"""The page of a verdict, its words, and where a run keeps both."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from ct.contracts import (
    Approval,
    Change,
    Check,
    CheckOutcome,
    HistoryEntry,
    Lift,
    NodeResult,
    Outcome,
    QuarantineRecord,
    RefitAgreement,
)
from ct.errors import CTError
from ct.home import Home, write_atomically
from ct.verdict_page import became, render, render_version
from ct.verdict_page.intervals import charts
from ct.verdict_page.record import (
    Question,
    answer,
    approval_of,
    ask,
    forget_answer,
    open_question,
    verdict_of,
    version_of,
)
from ct.verdict_page.words import cells, grouped, headline, markdown, refitted, standing
from tests.manifests import manifest_of
from tests.verdicts import AGREEMENT, AGREES, JUDGED, TRAINED, WITHHELD, comparison, verdict_with

if TYPE_CHECKING:
    from ct.contracts import Verdict

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
YES = Approval(approved=True, by="ada", at=NOW, reason="the drop is the strike of May")
NO = Approval(approved=False, by="time-out", at=NOW, reason="nobody answered")
VOID = ("meta", "br", "link", "img", "path", "circle")


class Page(HTMLParser):
    """Which tags a page has, and whether each one is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(verdict: Verdict, approval: Approval | None = None, name: str = "flights") -> str:
    """The page of version 7."""
    return render(name=name, version=7, run_id="flights-1", verdict=verdict, approval=approval)


def test_the_page_needs_no_network_and_no_script() -> None:
    """It can be mailed, opened from a folder, and shown in a frame that allows nothing."""
    page = Page(page_of(verdict_with(30)))
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    addresses = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert addresses == []
    assert "default-src 'none'" in str(page.tags)


@pytest.mark.parametrize("slices", [0, 3, 30])
def test_every_check_has_a_row_with_its_numbers_and_an_interval(slices: int) -> None:
    """Nothing is left out, however many slices there are."""
    verdict = verdict_with(slices)
    text = page_of(verdict)
    assert text.count("<tr><td>") == len(verdict.checks)
    assert text.count("<title>") - 1 == sum(check.low is not None for check in verdict.checks)
    for digest in (JUDGED, *TRAINED):
        assert digest in text
    assert "+0.0120" in text
    assert "+0.0080 to +0.0160" in text


def test_what_comes_from_data_is_escaped() -> None:
    """A slice is named by a value of the data, and that may be anything."""
    evil = '<script>alert("x")</script>$title&'
    hostile = comparison(f"carrier={evil}", -0.1, CheckOutcome.FAIL)
    verdict = verdict_with(0).model_copy(update={"checks": (hostile,), "reason": evil, "span": evil})
    text = page_of(verdict, YES.model_copy(update={"reason": evil, "by": evil}), name=evil)
    assert "<script" not in text
    assert Page(text).open == []


def test_what_became_of_a_version_is_on_its_page() -> None:
    """Forced by whom and why, its quarantine, and who lifted it; a reason is anything that somebody typed."""
    entry = HistoryEntry(
        generation=3,
        change=Change.ROLLOUT,
        version=7,
        previous=6,
        at=NOW,
        actor="bob",
        reason="<i>now</i>",
        forced=True,
    )
    lift = Lift(at=NOW, by="ada", reason="it was the network")
    record = QuarantineRecord(
        version=7, generation=4, fingerprints=(), reason="errors", by="monitor", at=NOW, lifted=lift
    )
    manifest = manifest_of("flights", 7, Path(__file__).parent)
    text = render_version(manifest, afterwards=became([entry], record))
    assert "<th>forced</th><td>by bob, 2026-03-01 12:00 UTC: &lt;i&gt;now&lt;/i&gt;</td>" in text
    assert "<th>quarantined</th><td>by monitor, 2026-03-01 12:00 UTC: errors</td>" in text
    assert "<th>lifted</th><td>by ada, 2026-03-01 12:00 UTC: it was the network</td>" in text
    assert "forced" not in render_version(manifest)


def test_an_agreement_from_before_the_level_had_a_limit_is_read() -> None:
    """It was held to the same band in both."""
    stored = AGREEMENT.model_dump(exclude={"level_band"})
    assert RefitAgreement.model_validate(stored).level_band == AGREEMENT.band


def test_drawing_twice_gives_the_same() -> None:
    """The page in MLflow and the page in Airflow are one."""
    assert page_of(verdict_with(12), YES) == page_of(verdict_with(12), YES)


def test_an_interval_that_is_far_wider_than_those_that_count_does_not_squash_them() -> None:
    """Few rows give wide intervals; they are cut with an arrow, and the others keep their size."""
    chart = charts(verdict_with(3).checks)[0]
    root = ET.fromstring(chart.svg)  # noqa: S314  made above
    wide = [group for group in root.findall("g") if "C02" in (group.findtext("title") or "")]
    assert len(wide[0].findall("path[@class='interval']")) == 3
    assert any(re.search(r"L.*L", path.get("d") or "") for path in wide[0].findall("path"))
    xs = [float(found) for found in re.findall(r'[ "]M([0-9.-]+)', chart.svg)]
    assert min(xs) >= 0
    assert max(xs) <= 1080


def test_outcomes_differ_by_shape_too() -> None:
    """Colours alone say nothing to some readers, nor in print."""
    chart = charts(verdict_with(9).checks)[0]
    for kind in ("disc", "cross", "diamond", "ring"):
        assert f'class="{kind}"' in chart.svg


def test_what_is_on_record_only_has_no_limit() -> None:
    """No line is drawn where nothing is asked, and no number stands in the column of limits."""
    verdict = verdict_with(0)
    (recorded,) = grouped(verdict.checks).recorded
    assert (cells(recorded)["outcome"], cells(recorded)["limit"]) == ("recorded", "-")
    chart = next(chart for chart in charts(verdict.checks) if chart.title == "brier of the candidate")
    assert chart.explanation == "on record, without a limit"
    assert 'class="limit"' not in chart.svg
    assert 'class="ring"' in chart.svg


def test_a_check_of_one_number_draws_a_chart_too() -> None:
    """An interval without width, around the limit itself."""
    flat = comparison("overall", 0.0, CheckOutcome.INCONCLUSIVE, half=0.0)
    (chart,) = charts([flat])
    ET.fromstring(chart.svg)  # noqa: S314  made above


def test_the_headline_says_who_decided() -> None:
    """The gate, or the person that the policy asked."""
    refused = verdict_with(outcome=Outcome.REFUSED)
    unsure = verdict_with(outcome=Outcome.INCONCLUSIVE)
    assert headline(refused, None) == "Refused: what serves now serves on."
    assert headline(unsure, None).endswith("better than version 6.")
    assert headline(unsure, YES).endswith("and ada approved it.")
    assert (
        headline(verdict_with(outcome=Outcome.APPROVED), NO)
        == "The candidate passed the gate, and time-out rejected it."
    )
    assert headline(unsure, None, waits=True).endswith("and waits for a person's approval.")
    assert 'class="pill pass"' in page_of(unsure, YES)
    assert '<div class="notice fail"><b>' in page_of(verdict_with(outcome=Outcome.APPROVED), NO)


def test_how_a_refit_did_beside_its_twin_is_on_the_page() -> None:
    """Each number with its limit; nothing where there was no refit, and no limit where there was none."""
    manifest = manifest_of("flights", 7, Path(__file__).parent).model_copy(update={"agreement": AGREEMENT})
    assert f"<th>refit</th><td>{AGREES}</td>" in render_version(manifest)
    assert "<th>refit</th>" not in render_version(manifest.model_copy(update={"agreement": None}))
    ((_, before),) = refitted(
        AGREEMENT.model_copy(update={"difference_band": None, "auc": None, "twin_auc": None}), None
    )
    assert before.endswith("predictions 0.0581 apart on average")
    assert "AUC - against -" in before


def test_a_withheld_candidate_is_told_from_an_approved_one() -> None:
    """In the headline, by colour and in a word, though the gate and a person had approved it."""
    manifest = manifest_of("flights", 7, Path(__file__).parent).model_copy(
        update={"agreement": AGREEMENT, "withheld": WITHHELD}
    )
    assert not manifest.may_serve
    text = render_version(manifest)
    assert '<span class="pill fail">approved, withheld</span>' in text
    assert (
        "<b>Withheld: the candidate passed the gate, and its refit does not agree with it on 4,096 rows: &lt;they"
        in text
    )
    assert "<th>refit</th><td>does not agree with its twin, which is this version, on 4,096 rows: AUC" in text
    assert "may serve" not in text
    asked = headline(manifest.verdict, YES, withheld=WITHHELD)
    assert asked.startswith("Withheld: the candidate passed the gate, ada approved it, and its refit does not agree")
    assert standing(manifest.verdict, YES, WITHHELD) == "approved, approved, withheld"


def test_deciding_checks_come_first_and_the_worst_slices_next() -> None:
    """Whoever reads from the top reads what matters."""
    found = grouped(verdict_with(9).checks)
    assert [check.metric for check in found.deciding] == ["auc", "auc", "model_mb"]
    assert [check.outcome.value for check in found.slices][:2] == ["fail", "inconclusive"]
    assert not found.slices[-1].blocking
    assert [check.metric for check in found.recorded] == ["brier"]
    assert len(found.all) == len(verdict_with(9).checks)


def test_what_is_not_known_is_a_dash() -> None:
    """Versions from before there were intervals have none."""
    old = Check.model_validate({"name": "n", "metric": "auc", "value": None, "threshold": 0.5, "passed": False})
    found = cells(old)
    assert (found["value"], found["interval"], found["level"], found["rows"]) == ("-", "-", "-", "-")
    assert found["outcome"] == "fail"


def test_the_markdown_is_a_table_that_no_value_can_break() -> None:
    """Airflow shows it in the question; a `|` in a value is not a column."""
    hostile = comparison("carrier=a|b\n[x](http://evil)", -0.1, CheckOutcome.FAIL)
    verdict = verdict_with(30)
    text = markdown(verdict.model_copy(update={"checks": (hostile, *verdict.checks)}))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8}
    assert "[x](http" not in text
    assert "checks more are on the page of the verdict" in text


def test_a_question_is_open_until_it_is_answered(tmp_path: Path) -> None:
    """And a new question forgets the old answer, which was about another verdict."""
    home = Home(tmp_path).create()
    question = Question(asked_at=NOW, until=NOW + timedelta(days=1), approves_by_default=False)
    ask(home, "r-1", question)
    assert open_question(home, "r-1") == question
    answer(home, "r-1", YES)
    assert (open_question(home, "r-1"), approval_of(home, "r-1")) == (None, YES)
    ask(home, "r-1", question)
    assert (open_question(home, "r-1"), approval_of(home, "r-1")) == (question, None)
    forget_answer(home, "r-1")
    assert open_question(home, "r-1") is None


def test_a_verdict_is_read_from_what_the_nodes_left(tmp_path: Path) -> None:
    """Version and verdict; nothing while the gate has not judged."""
    home, verdict = Home(tmp_path).create(), verdict_with()
    assert (verdict_of(home, "r-1"), version_of(home, "r-1")) == (None, None)
    for node, facts in (("Gate", {"verdict": verdict.model_dump(mode="json")}), ("Register", {"version": 7})):
        result = NodeResult(node_id=node, ok=True, seconds=1, peak_rss_mb=1, facts=facts)
        write_atomically(home.runs / "r-1" / f"{node}.result.json", result.model_dump_json())
    assert (verdict_of(home, "r-1"), version_of(home, "r-1")) == (verdict, 7)


def test_an_answer_that_cannot_be_read_is_not_taken_for_no_answer(tmp_path: Path) -> None:
    """A rejection that another version wrote must not become the gate's approval."""
    home = Home(tmp_path).create()
    write_atomically(home.runs / "r-1" / "approval.json", '{"approved": false, "new": 1}')
    with pytest.raises(CTError, match=r"approval.json of run r-1 cannot be read"):
        approval_of(home, "r-1")


@pytest.mark.parametrize("run_id", ["../outside", "..", "a/b", "link", "", "/etc"])
def test_nothing_outside_the_home_is_read(tmp_path: Path, run_id: str) -> None:
    """Neither by a run id that climbs, nor through a link."""
    home = Home(tmp_path / "home").create()
    outside = tmp_path / "home" / "outside"
    write_atomically(outside / "approval.json", YES.model_dump_json())
    (home.runs / "link").symlink_to(outside)
    assert approval_of(home, run_id) is None
    with pytest.raises(FileNotFoundError):
        answer(home, run_id, YES)
