"""`python -m demo.year`: twelve months land one after another; was the model that served better than one never retrained?

Everything goes through the front doors, as in `demo.story`: each month lands, its run goes through Airflow, the gate decides.
Once the year is over, what served after each month is scored on the month after it, beside January's model, from their files.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ct.cli.training_plane import ask_training_plane
from ct.errors import CTError
from ct.home import Home
from ct.rollout import ModelStore
from demo.story import PIPELINE, PROJECT, Landed, Setting, Stage, StoryError, clear, judged_against, land, sample
from demo.year_report import Judged, NextMonth, Year, write_table, write_year

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ct.contracts import Check

LABEL = "arr_late"
OUT = PROJECT / "demo-out" / "year"
MONTHS = 12


def main() -> int:
    """Replay the year; 0 when the model that served was better than the frozen one."""
    parser = argparse.ArgumentParser(prog="python -m demo.year", description=__doc__)
    parser.add_argument("--months", type=int, default=MONTHS, choices=range(2, MONTHS + 1), metavar="2-12")
    parser.add_argument("--rows", type=int, help="About how many rows of each month; all by default.")
    parser.add_argument("--out", default=OUT, type=type(OUT), help="Where table, numbers and plot go.")
    arguments = parser.parse_args()
    home = Home(PROJECT / ".ct-demo-year")
    clear(home)
    began = time.monotonic()
    months = range(1, arguments.months + 1)
    setting = Setting(
        home, months, arguments.rows, lambda line: print(f"[{time.monotonic() - began:5.0f} s] {line}", flush=True)
    )
    try:
        year = replay(setting, began)
    except (StoryError, CTError) as error:
        print(f"The year stopped: {error}", file=sys.stderr)
        return 1
    write_year(year, arguments.out)
    print(f"\n{write_table(year)}\n")
    print(f"{year.seconds:.0f} s; table, numbers and plot are in {arguments.out}")
    if year.served_mean <= year.frozen_mean:
        print("not as it must be: January's model was as good as the one that served", file=sys.stderr)
        return 1
    return 0


def replay(setting: Setting, began: float) -> Year:
    """Land every month on a fresh home, and score what served.

    Args:
        setting: where, and which months.
        began: when, of `time.monotonic()`.

    Raises:
        StoryError: a command failed, or a run did not end.
        CTError: the scoring failed.
    """
    stage = Stage(setting.home)
    staged = setting.home.root.with_name(f"{setting.home.root.name}-spans")
    spans = sample(stage, staged, setting)
    judged: list[Judged] = []
    landed: list[Landed] = []
    with ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, staged)
        cleanup.callback(stage.ct, "down")
        stage.ct("up", "--detach")
        stage.ct("deploy", str(setting.pipeline))
        for span in spans:
            month = land(stage, span, setting.say)
            landed.append(month)
            judged.append(_judged(stage, month))
    setting.say("scoring each version on the month after")
    following = _next_months(setting.home, judged, [month.path for month in landed])
    return Year(tuple(judged), following, seconds=time.monotonic() - began)


def _judged(stage: Stage, month: Landed) -> Judged:
    verdict = month.verdict
    first = next(check for check in verdict.checks if check.slice == "overall")
    compared = _comparison(verdict.checks)
    store, run = ModelStore(stage.home, PIPELINE), month.run
    desired = store.desired()
    is_withheld = run.version is not None and store.manifest(run.version).withheld is not None
    return Judged(
        span=month.span,
        rows=month.rows,
        seconds=time.time() - month.at,
        candidate_auc=first.value,
        champion_auc=judged_against(verdict),
        champion_version=verdict.champion_version,
        difference=compared.difference if compared else None,
        low=compared.low if compared else None,
        high=compared.high if compared else None,
        margin=compared.threshold if compared else None,
        verdict="withheld" if is_withheld else verdict.outcome.value,
        reason=run.message if is_withheld else verdict.reason,
        version=run.version,
        serves=desired.version if desired else None,
    )


def _comparison(checks: Sequence[Check]) -> Check | None:
    """The check that compares the two models overall."""
    return next((check for check in checks if check.slice == "overall" and check.difference is not None), None)


def _next_months(home: Home, judged: Sequence[Judged], spans: Sequence[Path]) -> tuple[NextMonth, ...]:
    """For each month but the last: the AUCs on the month after, of what served then and of the first version that ever served.

    That is January's, unless January's candidate was refused; nothing served then, and the month is left out.
    """
    store = ModelStore(home, PIPELINE)
    served = [
        (month.span, month.serves, span)
        for month, span in zip(judged[:-1], spans[1:], strict=True)
        if month.serves is not None
    ]
    if not served:
        raise StoryError(f"No candidate was approved before {judged[-1].span}. There is nothing to freeze.")
    frozen = served[0][1]
    asked = [
        {"model": str(store.version_path(version) / "saved_model"), "span": str(span)}
        for _, serves, span in served
        for version in (serves, frozen)
    ]
    aucs = ask_training_plane("demo.offline", {"label": LABEL, "pairs": asked}, home)["aucs"]
    return tuple(
        NextMonth(after=after, on=span.stem, version=serves, served_auc=new, frozen_auc=old)
        for (after, serves, span), new, old in zip(served, aucs[::2], aucs[1::2], strict=True)
    )


if __name__ == "__main__":
    sys.exit(main())
