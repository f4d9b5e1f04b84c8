"""A verdict as a page of HTML: one file, no script, nothing from the network. Everything that comes from data is escaped."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from ct.contracts import Outcome
from ct.verdict_page.intervals import charts
from ct.verdict_page.words import HEADER, NUMERIC, answered, by, cells, grouped, headline, judged_on, refitted, standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.contracts import Approval, Check, Proof, RefitAgreement, Verdict, VersionManifest

TEMPLATE = Path(__file__).with_name("page.html")
KINDS = {Outcome.APPROVED: "pass", Outcome.REFUSED: "fail", Outcome.INCONCLUSIVE: "inconclusive"}


def render_version(
    manifest: VersionManifest, proof: Proof | None = None, afterwards: Sequence[tuple[str, str]] = ()
) -> str:
    """The page of a registered version."""
    return render(
        name=manifest.name,
        version=manifest.version,
        run_id=manifest.run_id,
        verdict=manifest.verdict,
        approval=manifest.approval,
        agreement=manifest.agreement,
        withheld=manifest.withheld,
        proof=proof,
        afterwards=afterwards,
    )


def render(
    *,
    name: str,
    version: int | None,
    run_id: str,
    verdict: Verdict,
    approval: Approval | None,
    agreement: RefitAgreement | None = None,
    withheld: str | None = None,
    proof: Proof | None = None,
    waits: bool = False,
    afterwards: Sequence[tuple[str, str]] = (),
) -> str:
    """The page of a verdict. Rendering the same twice gives the same.

    Args:
        name: the model's, which is the pipeline's.
        version: as which the candidate was registered; None when it was not, or not yet.
        run_id: the run that trained it.
        verdict: what the gate decided.
        approval: what a person or the time-out answered, where the policy asks.
        agreement: how the refit did beside the candidate, where there was one.
        withheld: why the candidate may not serve although it was approved.
        proof: what came of starting the service on it, once that was done.
        waits: whether a person is asked and has not answered yet.
        afterwards: what was done about the version since, from ct.verdict_page.words.became.
    """
    checks = grouped(verdict.checks)
    what = f"version {version}" if version is not None else "candidate"
    kind = "inconclusive" if waits else KINDS[verdict.outcome]
    if approval is not None:
        kind = "pass" if approval.approved else "fail"
    if withheld is not None:
        kind = "fail"
    told = [*refitted(agreement, withheld), *afterwards]
    tables = (
        ("Checks that decide", checks.deciding),
        ("Slices", checks.slices),
        ("Recorded only", checks.recorded),
        ("Proof of the served artifact", proof.checks if proof else ()),
    )
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(f"{name}, {what}: verdict"),
        heading=f"{escape(name)} <span>{escape(what)}</span>",
        kind=kind,
        outcome=standing(verdict, approval, withheld),
        headline=escape(headline(verdict, approval, waits=waits, withheld=withheld)),
        reason=_with_code(verdict.reason),
        tiles="".join(_tile(value, label) for value, label in _tiles(verdict)),
        charts=_charts(checks.all),
        tables="".join(_table(title, group) for title, group in tables if group),
        facts="".join(_fact(label, value) for label, value in _facts(run_id, verdict, approval, proof, told)),
    )


def _tiles(verdict: Verdict) -> list[tuple[str, str]]:
    champion = "nothing" if verdict.champion_version is None else f"version {verdict.champion_version}"
    tiles = [(champion, "compared with"), (verdict.span, "judged on"), (f"{verdict.rows:,}", "rows")]
    if verdict.alpha is not None:
        tiles.append((f"{verdict.alpha:g}", "largest chance of a false pass"))
    return tiles


def _facts(
    run_id: str,
    verdict: Verdict,
    approval: Approval | None,
    proof: Proof | None,
    told: Sequence[tuple[str, str]],
) -> list[tuple[str, str]]:
    facts = [("run", run_id), ("judged on", judged_on(verdict))]
    if approval is not None:
        facts.append(("approval", f"{answered(approval)} {by(approval)}"))
    facts += told
    if proof is not None:
        facts.append(("proof", f"{'passed' if proof.passed else 'failed'}: {proof.reason}"))
    facts += [("sha256 of what it was judged on", digest) for digest in verdict.judged_sha256]
    facts += [("sha256 of what it learnt from", digest) for digest in verdict.trained_sha256]
    return [*facts, *([("seed of the bootstrap", str(verdict.seed))] if verdict.seed is not None else [])]


def _charts(checks: Sequence[Check]) -> str:
    drawn = [
        f'<div class="card"><h3>{escape(chart.title)}<small>{escape(chart.explanation)}</small></h3>{chart.svg}</div>'
        for chart in charts(checks)
    ]
    return f"<h2>Intervals</h2>{''.join(drawn)}" if drawn else ""


def _table(title: str, checks: Sequence[Check]) -> str:
    head = "".join(f'<th class="{_alignment(column)}">{column}</th>' for column in HEADER)
    rows = "".join(
        f"<tr>{''.join(_cell(column, text) for column, text in cells(check).items())}</tr>" for check in checks
    )
    return (
        f'<h2>{title}<small>{len(checks)}</small></h2><div class="card"><table class="checks">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(column: str, text: str) -> str:
    if column == "outcome":
        return f'<td><span class="pill {text}">{text}</span></td>'
    return f'<td class="{_alignment(column)}">{escape(text)}</td>'


def _alignment(column: str) -> str:
    return "number" if column in NUMERIC else "text"


def _with_code(sentence: str) -> str:
    """Escaped, with what stands between backticks as code."""
    parts = escape(sentence).split("`")
    return "".join(f"<code>{part}</code>" if position % 2 else part for position, part in enumerate(parts))


def _tile(value: str, label: str) -> str:
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(label)}</span></div>'


def _fact(label: str, value: str) -> str:
    return f"<tr><th>{escape(label)}</th><td>{escape(value)}</td></tr>"
