"""`python -m bench.serving`: set up what is missing, measure, print the tables and write results/serving.json."""

from __future__ import annotations

import argparse
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench import command
from bench.serving import alone, bodies, environments, flips, limit, model, process, report, servers, shadowed, turns
from bench.serving.places import BENCH, RESULTS, RUN
from bench.serving.report import Measured
from bench.serving.vegeta import Vegeta
from ct.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUNDS, SECONDS, FLIPS, PAIRS = 5, 5, 100, 12
QUICK_ROUNDS, QUICK_SECONDS, QUICK_FLIPS, QUICK_PAIRS = 1, 2, 20, 1
QUICK_RESULTS = BENCH / "quick.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all of it; 0 when every measurement was made, whatever it says."""
    asked = _parse(arguments)
    return command.run(lambda say: report.as_json(_measure(asked, say)), report.print_tables, asked.out, RUN)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description="See docs/benchmarks.md.")
    parser.add_argument("--rounds", type=int, help=f"turns of each server, by default {ROUNDS}")
    parser.add_argument("--seconds", type=int, help=f"length of a turn, by default {SECONDS}")
    parser.add_argument("--flips", type=int, help=f"rollbacks under load, by default {FLIPS}")
    parser.add_argument("--pairs", type=int, help=f"runs without and with a shadow, by default {PAIRS}")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_ROUNDS} round of {QUICK_SECONDS} s and {QUICK_FLIPS} rollbacks, to see that all of it runs; "
        "writes .bench/quick.json",
    )
    parser.add_argument("--out", type=Path, help="where the JSON goes, by default bench/results/serving.json")
    asked = parser.parse_args(arguments)
    asked.rounds = asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS)
    asked.seconds = asked.seconds or (QUICK_SECONDS if asked.quick else SECONDS)
    asked.flips = asked.flips or (QUICK_FLIPS if asked.quick else FLIPS)
    asked.pairs = asked.pairs or (QUICK_PAIRS if asked.quick else PAIRS)
    asked.out = (asked.out or (QUICK_RESULTS if asked.quick else RESULTS)).resolve()
    if min(asked.rounds, asked.seconds, asked.flips, asked.pairs) < 1:
        parser.error("--rounds, --seconds, --flips and --pairs must be at least 1")
    return asked


def _measure(asked: argparse.Namespace, say: Callable[[str], None]) -> Measured:
    busy_percent = command.busy_percent(say)
    environments.install_peers(say)
    wrk, vegeta_program = environments.wrk(say), environments.vegeta(say)
    trained = model.trained(say)
    left = process.end_leftovers()
    if left:
        say(f"ended {left} processes that an interrupted benchmark had left")
    shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir()
    home = Home(RUN / "home").create()
    store = model.stage(trained, home)
    vegeta = Vegeta(vegeta_program, RUN)
    with ExitStack() as cleanup:
        contestants = []
        for server in (servers.ours(home), *servers.peers(trained, RUN)):
            say(f"starting {server.name}")
            launched = server.launch(RUN, trained)
            cleanup.callback(launched.end)
            launched.pause()
            features, rows = trained.manifest().features, trained.examples()["instances"]
            lines = bodies.write(RUN / f"{server.name}.lines", server.body, features, rows)
            contestants.append(turns.Contestant(server.name, launched, server.url, lines))
        direct = cleanup.enter_context(limit.direct(trained, RUN))
        compared = turns.take_turns(contestants, direct, wrk=wrk, rounds=asked.rounds, seconds=asked.seconds, say=say)
        ours, peak = contestants[0], compared.a_second(servers.OURS)
        with turns.running(ours):
            return Measured(
                turns=compared,
                half_peak=alone.half_peak(ours, vegeta, peak_a_second=peak, seconds=asked.seconds, say=say),
                single_connection=alone.single_connection(ours, direct, wrk=wrk, seconds=asked.seconds, say=say),
                shapes=alone.shapes(ours, trained, RUN, wrk=wrk, seconds=asked.seconds, say=say),
                shadowed=shadowed.shadow(
                    *(ours, store, vegeta),
                    peak_a_second=peak,
                    count=asked.pairs,
                    seconds=asked.seconds,
                    say=say,
                ),
                flips=flips.flip(ours, store, home, vegeta, peak_a_second=peak, count=asked.flips, say=say),
                rounds=asked.rounds,
                seconds=asked.seconds,
                busy_percent=busy_percent,
                versions=environments.versions(wrk),
            )


if __name__ == "__main__":
    sys.exit(main())
