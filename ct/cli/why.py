"""`ct why`: why a version serves or does not, with every number that the decision rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ct.cli.judged import of_run, of_version
from ct.cli.output import json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ct.cli.judged import Judged
    from ct.contracts import Check, Span

COLORS = {"pass": "green", "fail": "red", "inconclusive": "yellow", "recorded": "bright_black"}
OUTCOME_COLORS = {"approved": "green", "refused": "red", "inconclusive": "yellow"}
LABEL_WIDTH = 12


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--run", "run_id", help="The verdict of a run, also of one whose candidate has no version.")
@json_option
def why(name: str, version: int | None, run_id: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Why VERSION of NAME may serve, or may not: each check with its numbers.

    Without VERSION: the newest one, refused or not.
    """
    from ct.cli.known import model_store  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415

    if version is not None and run_id is not None:
        raise click.UsageError("Say either a version or --run.")
    home = Home.from_environment()
    found = of_run(home, name, run_id) if run_id is not None else of_version(model_store(home, name), version)
    if as_json:
        print_json(found.json)
        return
    for line in lines_of(found):
        click.echo(line)


def lines_of(found: Judged) -> Iterator[str]:
    """What a person reads: the decision, what it rests on, then each check."""
    from ct.verdict_page.words import grouped, headline, standing  # noqa: PLC0415

    verdict, color = found.verdict, "red" if found.withheld else OUTCOME_COLORS[found.verdict.outcome.value]
    what = f"version {found.version}" if found.version else f"the candidate of run {found.run_id}"
    outcome = click.style(standing(verdict, None, found.withheld), fg=color, bold=True)
    yield f"{found.name} {what}: {outcome}{_role(found)}"
    yield headline(verdict, found.approval, waits=found.waits, withheld=found.withheld)
    yield verdict.reason
    yield ""
    yield from (f"{label:{LABEL_WIDTH}}{text}" for label, text in _facts(found))
    checks = grouped(verdict.checks)
    for title, group in (
        ("checks that decide", checks.deciding),
        ("slices", checks.slices),
        ("recorded only", checks.recorded),
        ("proof of the served artifact", found.proof.checks if found.proof else ()),
    ):
        if group:
            yield from ["", f"{title} ({len(group)})", *_table(group)]


def _role(found: Judged) -> str:
    if found.version is None or found.serving is None:
        return ""
    return "; it serves now" if found.version == found.serving else f"; version {found.serving} serves now"


def _facts(found: Judged) -> Iterator[tuple[str, str]]:
    from ct.verdict_page.words import answered, became, by, judged_on, refitted  # noqa: PLC0415

    verdict = found.verdict
    against = "nothing served" if verdict.champion_version is None else f"against version {verdict.champion_version}"
    yield "judged on", f"{judged_on(verdict)}, {against}"
    yield from (("", line) for line in _hashes(verdict.judged_sha256, found.spans))
    if verdict.trained_sha256:
        again = "; then trained again with all" if found.refit else ""
        yield "learnt from", f"{len(verdict.trained_sha256)} spans{again}"
        yield from (("", line) for line in _hashes(verdict.trained_sha256, found.spans))
    policy = [f"alpha {verdict.alpha:g}"] if verdict.alpha is not None else []
    policy += [f"seed {verdict.seed}"] if verdict.seed is not None else []
    policy += [f"spec {found.spec_hash}"] if found.spec_hash else []
    yield "run", ", ".join([found.run_id, *policy])
    if found.approval is not None:
        yield "approval", f"{answered(found.approval)} {by(found.approval)}"
    yield from refitted(found.agreement, found.withheld)
    yield from became(found.forced, found.quarantined)
    if found.proof is not None:
        yield "proof", f"{'passed' if found.proof.passed else 'failed'}: {found.proof.reason}"


def _hashes(digests: Sequence[str], spans: Sequence[Span]) -> Iterator[str]:
    names = {span.sha256: span.name for span in spans}
    yield from (f"  sha256 {digest}{f'  {names[digest]}' if digest in names else ''}" for digest in digests)


def _table(checks: Sequence[Check]) -> Iterator[str]:
    """Aligned columns; those that no check fills are left out. Colours go where the output is a terminal."""
    from ct.verdict_page.words import HEADER, NUMERIC, cells  # noqa: PLC0415

    rows = [cells(check) for check in checks]
    columns = [column for column in HEADER if any(row[column] != "-" for row in rows)]
    widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in columns}

    def aligned(texts: dict[str, str]) -> list[str]:
        return [f"{texts[column]:{'>' if column in NUMERIC else '<'}{widths[column]}}" for column in columns]

    yield f"  {'  '.join(aligned({column: column for column in columns}))}".rstrip()
    for row in rows:
        outcome, *rest = aligned(row)
        yield f"  {click.style(outcome, fg=COLORS[row['outcome']])}  {'  '.join(rest)}".rstrip()
