"""Prove that a version serves as it should before it does.

`python -m serving.proof flights 8` prints one line of JSON, a contracts.Proof or an error, and writes `proof.json` into the
version's folder. CT_HOME says whose store. What serves is not touched.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct.errors import CTError
from ct.gate_config import GuardsConfig
from ct.home import Home
from ct.lifetime import adopt_orphans, die_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NO_ROWS: Mapping[str, list[Any]] = {"instances": [], "predictions": []}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a proof, passed or not, and return 0; or print `{"error": {...}}` and return 1."""
    guards = GuardsConfig()
    parser = argparse.ArgumentParser(prog="python -m serving.proof", description="Prove a version before it serves.")
    parser.add_argument("name")
    parser.add_argument("version", type=int)
    parser.add_argument("--latency-ratio", type=float, default=guards.latency_ratio)
    parser.add_argument("--memory-ratio", type=float, default=guards.memory_ratio)
    parser.add_argument("--allow-incompatible", action="store_true", help="it may refuse what clients send now")
    parser.add_argument("--log", type=Path, help="of the service; by default logs/proof.log in CT_HOME")
    parser.add_argument("--rows", action="store_true", help="standard input has further rows, like an examples.json")
    parser.add_argument("--parent", type=int, help="the pid of whoever started this; it ends with that process")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)
    if asked.parent is not None:
        die_with_parent(asked.parent, signal.SIGTERM)
    adopt_orphans()
    home = Home.from_environment()
    from serving.proof.proving import Limits, prove  # noqa: PLC0415  after it is sure whose child this is

    limits = Limits(asked.latency_ratio, asked.memory_ratio, asked.allow_incompatible)
    try:
        proof = prove(
            home,
            asked.name,
            asked.version,
            limits,
            asked.log or home.logs / "proof.log",
            lambda: json.load(sys.stdin) if asked.rows else NO_ROWS,
        )
    except CTError as error:
        told = {"error": {**error.facts, "type": type(error).__name__, "message": error.message}}
        sys.stdout.write(json.dumps(told, default=str) + "\n")
        return 1
    sys.stdout.write(proof.model_dump_json() + "\n")
    return 0


def _stop(number: int, _: object) -> None:
    """Leave by way of every `finally`."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
