"""`python -m bench.gate`: simulate, print the table and write results/gate.json; 1 when equal models pass too often."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import command
from bench.gate.simulation import simulate
from bench.serving.places import BENCH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAIRS, QUICK_PAIRS = 1_000, 50
RESULTS = Path(__file__).resolve().parents[1] / "results" / "gate.json"
QUICK_RESULTS = BENCH / "gate.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all of it; 0 when no arm of equal models passes more often than alpha."""
    asked = _parse(arguments)
    found: list[Mapping[str, Any]] = []

    def show(result: Mapping[str, Any]) -> None:
        found.append(result)
        _print_table(result)

    code = command.run(lambda say: simulate(asked.pairs, say), show, asked.out, BENCH)
    return code or int(found[0]["false_pass"] > found[0]["alpha"])


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description="See docs/gate.md.")
    quick = f"{QUICK_PAIRS} pairs, to see that all of it runs; writes .bench/gate.json"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--pairs", type=int, help=f"pairs of each kind, by default {PAIRS:,}")
    parser.add_argument("--out", type=Path, help="where the JSON goes, by default bench/results/gate.json")
    asked = parser.parse_args(arguments)
    asked.pairs = asked.pairs or (QUICK_PAIRS if asked.quick else PAIRS)
    asked.out = (asked.out or (QUICK_RESULTS if asked.quick else RESULTS)).resolve()
    return asked


def _print_table(result: Mapping[str, Any]) -> None:
    click.echo(
        f"\n{result['pairs']:,} pairs of each kind on {result['rows']:,} rows, champion's AUC {result['champion_auc']:g}, "
        f"scores correlated by {result['correlation']:g}, alpha {result['alpha']:g}\n"
    )
    click.echo(f"{'':36}{'approved':>10}{'inconclusive':>14}{'refused':>10}")
    for name, shares in result["outcomes"].items():
        kind = "no better" if name in result["false_pass_of"] else "AUC better by"
        numbers = f"{shares['approved']:>10.1%}{shares['inconclusive']:>14.1%}{shares['refused']:>10.1%}"
        click.echo(f"{f'{kind}: {name}' if kind == 'no better' else f'{kind} {name}':36}{numbers}")
    good = result["false_pass"] <= result["alpha"]
    told = "stays under" if good else "EXCEEDS"
    click.echo(f"\nfalse passes: {result['false_pass']:.1%} at most, which {told} alpha {result['alpha']:.0%}")


if __name__ == "__main__":
    sys.exit(main())
