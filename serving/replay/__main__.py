"""Run the logged requests of a period through one version and compare with what was answered.

`python -m serving.replay NAME --version 7 --since ... --until ...` prints one line of JSON, a report or an error; `ct replay`
runs it and shows it to people. Nothing that serves is touched.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from ct.errors import CTError
from ct.home import Home
from ct.rollout import ModelStore
from serving.logs.prediction_log import read
from serving.replay.comparison import ReplayError, compare

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a report, or `{"error": {...}}` and return 1."""
    parser = argparse.ArgumentParser(prog="python -m serving.replay", description="Replay logged requests.")
    parser.add_argument("name")
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--since", type=datetime.fromisoformat, required=True)
    parser.add_argument("--until", type=datetime.fromisoformat, required=True)
    parser.add_argument("--threshold", type=float, default=0.5)
    asked = parser.parse_args(arguments)
    try:
        told = _report(Home.from_environment(), asked.name, asked.version, asked.since, asked.until, asked.threshold)
    except CTError as error:
        told = {"error": {**error.facts, "type": type(error).__name__, "message": error.message}}
    sys.stdout.write(json.dumps(told, default=str) + "\n")
    return 1 if "error" in told else 0


def _report(home: Home, name: str, version: int, since: datetime, until: datetime, threshold: float) -> dict[str, Any]:
    unreadable: list[str] = []
    batches = read(home, name, since=since, until=until, skipped=unreadable)
    first = next(batches, None)  # before TensorFlow is imported, which takes seconds
    if first is None:
        raise _nothing_logged(home, name, since, until, unreadable)
    from serving.plane.version import load_version  # noqa: PLC0415

    candidate = load_version(ModelStore(home, name), version)
    asked = {"name": name, "version": version, "since": since.isoformat(), "until": until.isoformat()}
    return {**asked, **compare(candidate, chain([first], batches), threshold), "unreadable": unreadable}


def _nothing_logged(home: Home, name: str, since: datetime, until: datetime, unreadable: list[str]) -> ReplayError:
    from ct.settings import Settings  # noqa: PLC0415  for the message only

    share = Settings.load(home).prediction_log_share
    folder = home.predictions(name)
    files = [path.relative_to(folder) for path in sorted(folder.glob("*/*.parquet"))]
    newest = f"the newest of {len(files)} files is {files[-1]}" if files else "there is no file at all"
    damaged = f", and {len(unreadable)} cannot be read, such as {unreadable[0]}" if unreadable else ""
    return ReplayError(
        f'Cannot replay "{name}": no answered request from {since:%Y-%m-%d %H:%M:%S} to {until:%Y-%m-%d %H:%M:%S} UTC is in '
        f"{folder}; {newest}{damaged}. Share of requests that are kept: {share:g} (prediction_log_share in "
        f"{home.root / 'settings.yaml'}, or CT_PREDICTION_LOG_SHARE when serving starts). Serving goes on as it did. "
        "Use a longer `--last`, or set a larger share, restart with `ct down` and `ct up`, and wait for requests.",
        name=name,
        share=share,
        folder=str(folder),
        unreadable=unreadable,
    )


if __name__ == "__main__":
    sys.exit(main())
