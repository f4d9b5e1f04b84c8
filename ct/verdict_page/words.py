"""A verdict in words, and its checks as rows of text: what terminal, page and Airflow's question have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct.contracts import CheckOutcome, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ct.contracts import Approval, Check, HistoryEntry, Lift, QuarantineRecord, RefitAgreement, Verdict

OVERALL = "overall"
HEADER = ("outcome", "check", "on", "value", "champion", "better by", "interval", "level", "limit", "rows", "method")
NUMERIC = ("value", "champion", "better by", "interval", "level", "limit", "rows")
"""Columns that are aligned to the right."""
SHORT = HEADER[:7]
"""Columns of the table in Markdown."""
RECORDED = "recorded"
"""What is shown instead of an outcome that has no say."""
MARKDOWN_ROWS = 12
JUDGED = {
    Outcome.APPROVED: "passed the gate",
    Outcome.REFUSED: "was refused by the gate",
    Outcome.INCONCLUSIVE: "was not told apart from the champion by the gate",
}
LARGE = 10.0
WORST_FIRST = (CheckOutcome.FAIL, CheckOutcome.INCONCLUSIVE, CheckOutcome.PASS)


@dataclass(frozen=True)
class Grouped:
    """A verdict's checks in the order in which they are read."""

    deciding: tuple[Check, ...]
    """Of all rows, in the order of the policy."""
    slices: tuple[Check, ...]
    """Those with a say first, the worst of them first."""
    recorded: tuple[Check, ...]
    """Of all rows, without a say."""

    @property
    def all(self) -> tuple[Check, ...]:
        return self.deciding + self.slices + self.recorded


def grouped(checks: Sequence[Check]) -> Grouped:
    """Checks that decide, slices, and what is only on record."""
    overall = [check for check in checks if check.slice == OVERALL]
    slices = sorted((check for check in checks if check.slice != OVERALL), key=_badness)
    return Grouped(
        tuple(check for check in overall if check.blocking),
        tuple(slices),
        tuple(check for check in overall if not check.blocking),
    )


def headline(verdict: Verdict, approval: Approval | None, *, waits: bool = False, withheld: str | None = None) -> str:
    """What was decided, and by whom, as a sentence.

    Args:
        verdict: the gate's.
        approval: the answer of a person or of the time-out.
        waits: whether a person is asked and has not answered yet.
        withheld: why the candidate may not serve although it was approved.
    """
    if withheld is not None:
        person = "" if approval is None else f", {approval.by} {answered(approval)} it"
        return f"Withheld: the candidate {JUDGED[verdict.outcome]}{person}, and {withheld}."
    if waits:
        return f"The candidate {JUDGED[verdict.outcome]}, and waits for a person's approval."
    if approval is not None:
        return f"The candidate {JUDGED[verdict.outcome]}, and {approval.by} {answered(approval)} it."
    against = "" if verdict.champion_version is None else f" than version {verdict.champion_version}"
    return {
        Outcome.APPROVED: "Approved: the candidate may serve.",
        Outcome.REFUSED: "Refused: what serves now serves on." if against else "Refused: nothing serves yet.",
        Outcome.INCONCLUSIVE: f"Inconclusive: the data cannot tell whether the candidate is better{against}.",
    }[verdict.outcome]


def standing(verdict: Verdict, approval: Approval | None, withheld: str | None) -> str:
    """The gate's outcome in a word, and what was said or found behind it."""
    said = [verdict.outcome.value, *([answered(approval)] if approval else []), *(["withheld"] if withheld else [])]
    return ", ".join(said)


def answered(approval: Approval) -> str:
    """What a person, or the time-out, said."""
    return "approved" if approval.approved else "rejected"


def by(record: Approval | QuarantineRecord | Lift) -> str:
    """Who, when and why."""
    return _told(record.by, record.at, record.reason)


def became(forced: Sequence[HistoryEntry], quarantined: QuarantineRecord | None) -> list[tuple[str, str]]:
    """What people and the monitor did about a version after its verdict: what, and by whom, when and why.

    Args:
        forced: the changes with which somebody let it answer against the gate or its proof.
        quarantined: its newest quarantine, in force or lifted.
    """
    told = [("forced", _told(entry.actor, entry.at, entry.reason)) for entry in forced]
    if quarantined is not None:
        told.append(("quarantined", by(quarantined)))
        if quarantined.lifted is not None:
            told.append(("lifted", by(quarantined.lifted)))
    return told


def refitted(agreement: RefitAgreement | None, withheld: str | None) -> list[tuple[str, str]]:
    """How a refit did beside its twin: what, and each number with its limit. Nothing where there are no numbers.

    Args:
        agreement: the numbers.
        withheld: why the two do not agree.
    """
    if agreement is None:
        return []
    stands = "agrees with its twin" if withheld is None else "does not agree with its twin, which is this version,"
    ranks = f"AUC {number(agreement.auc)} against {number(agreement.twin_auc)}, {agreement.band:g} worse is allowed"
    level = (
        f"mean prediction {number(agreement.level_error)} from the share of positives against "
        f"{number(agreement.twin_level_error)}, {agreement.level_band:g} worse is allowed"
    )
    apart = f"predictions {number(agreement.mean_difference)} apart on average"
    limit = "" if agreement.difference_band is None else f", {agreement.difference_band:g} is allowed"
    return [("refit", f"{stands} on {agreement.rows:,} rows: {ranks}; {level}; {apart}{limit}")]


def _told(who: str, at: datetime, reason: str) -> str:
    return f"by {who}, {at:%Y-%m-%d %H:%M} UTC: {reason}"


def judged_on(verdict: Verdict) -> str:
    """The rows that the verdict rests on, in words."""
    rows = f"{verdict.rows:,} rows of {verdict.span}"
    return f"the held-out last days of {verdict.span}, {verdict.rows:,} rows" if verdict.holdout else rows


def cells(check: Check) -> dict[str, str]:
    """A check as text, by the columns of HEADER; what is not known is `-`."""
    return {
        "outcome": outcome_of(check),
        "check": check.name,
        "on": check.slice,
        "value": number(check.value),
        "champion": number(check.baseline),
        "better by": signed(check.difference),
        "interval": interval(check),
        "level": level(check.level),
        "limit": "-" if check.threshold is None else f"{check.threshold:g}",
        "rows": "-" if check.rows is None else f"{check.rows:,}",
        "method": check.method or "-",
    }


def outcome_of(check: Check) -> str:
    """`pass`, `fail`, `inconclusive`; of a check without a say, `recorded`."""
    return check.outcome.value if check.blocking else RECORDED


def number(value: float | None) -> str:
    """Four decimals, or two of what is large."""
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < LARGE else f"{value:,.2f}"


def signed(value: float | None) -> str:
    """The same with a sign."""
    return "-" if value is None else f"{value:+.4f}" if abs(value) < LARGE else f"{value:+,.2f}"


def interval(check: Check) -> str:
    """`+0.0004 to +0.0054` of a difference, `0.6921 to 0.7141` of a value."""
    if check.low is None or check.high is None:
        return "-"
    show = number if check.difference is None else signed
    return f"{show(check.low)} to {show(check.high)}"


def level(share: float | None) -> str:
    """A confidence level in per cent."""
    return "-" if share is None else f"{100 * share:.4g} %"


def markdown(verdict: Verdict) -> str:
    """The verdict as Markdown: what was decided and why, and a table of the checks that matter most."""
    ordered = grouped(verdict.checks).all
    shown = ordered[:MARKDOWN_ROWS]
    against = "nothing" if verdict.champion_version is None else f"version {verdict.champion_version}"
    lines = [
        f"**{verdict.outcome.value}**: {_escaped(verdict.reason)}",
        "",
        f"Judged on {_escaped(judged_on(verdict))}, against {against}.",
        "",
        _row(SHORT),
        _row(tuple("---:" if column in NUMERIC else "---" for column in SHORT)),
        *(_row(tuple(_escaped(cells(check)[column]) for column in SHORT)) for check in shown),
    ]
    left = len(ordered) - len(shown)
    return "\n".join([*lines, *(["", f"{left} checks more are on the page of the verdict."] if left else [])])


def _badness(check: Check) -> tuple[bool, int, float]:
    difference = 0.0 if check.difference is None else check.difference
    return not check.blocking, WORST_FIRST.index(check.outcome), difference


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _escaped(text: str) -> str:
    """Text for a cell: slices are named by values of the data, which may hold anything."""
    for character in "\\`*_[]<>|":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
