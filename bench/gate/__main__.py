"""`python -m bench.gate`: simulate, print, write results/gate.json; 1 when models that are no better pass too often."""

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
    """Do all of it; 0 when no arm of models that are no better passes more often than alpha."""
    asked = _parse(arguments)
    found: list[Mapping[str, Any]] = []

    def show(result: Mapping[str, Any]) -> None:
        found.append(result)
        _print_table(result)

    code = command.run(lambda say: simulate(asked.pairs, say), show, asked.out, BENCH)
    return code or int(_exceeds(found[0]) or _rare_exceeds(found[0]))


def _exceeds(result: Mapping[str, Any]) -> bool:
    return bool(result["false_pass"] > result["alpha"])


def _rare_exceeds(result: Mapping[str, Any]) -> bool:
    """Beyond what so few pairs may by chance."""
    return bool(result["rare_label"]["false_pass"] > result["rare_label"]["most"])


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
    rare = result["rare_label"]
    numbers = (
        f"{rare['false_pass']:>10.1%}{rare['outcomes']['inconclusive']:>14.1%}{rare['outcomes']['refused']:>10.1%}"
    )
    click.echo(f"{'no better: rare label':36}{numbers}")
    click.echo(
        f"\nrare label: {rare['pairs']:,} pairs, {rare['positives']} positive of {rare['rows']:,} rows, champion's AUC "
        f"{rare['champion_auc']:g}, worse by {-rare['margin']:g}, margin {rare['margin']:g}"
    )
    told = "EXCEEDS" if _exceeds(result) else "stays under"
    click.echo(f"false passes: {result['false_pass']:.1%} at most, which {told} alpha {result['alpha']:.0%}")
    told = "EXCEEDS" if _rare_exceeds(result) else "stays within"
    click.echo(
        f"of the rare label: {rare['false_pass']:.1%}, which {told} alpha and the chance of so few pairs, {rare['most']:.1%}"
    )
    click.echo(f"took {result['seconds']:g} s")


if __name__ == "__main__":
    sys.exit(main())
