"""200 spans land while processes are killed: every good one is trained on once, every bad one refused with its reason."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import psutil
import pytest
from landings import Landing, Plan, land, plan

from ct.home import Home
from demo.story import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = int(os.environ.get("CT_CHAOS_SEED", "20130101"))
LAND_S, KILL_EVERY_S = 200.0, (6.0, 14.0)
"""The landings are spread over so long, and processes are killed meanwhile."""
TORN_S = 3.0
END_S = 540.0
"""From the start of all; whatever has not come to its end by then fails the test."""
VICTIMS = (
    "worker",
    "worker",
    "airflow-triggerer",
    "airflow-scheduler",
    "airflow-dag-processor",
    "airflow-api-server",
    "mlflow",
    "monitor",
)
"""The worker twice as often: with it goes the node that runs."""
PIPELINE = Path(__file__).resolve().parents[2] / "pipelines" / "flights"
SETTINGS = {
    'pattern: "*.parquet"': 'pattern: "*.csv"',
    "settle_s: 2": "settle_s: 0.5\n  cooldown_s: 10\n  max_wait_s: 60",
    "epochs: 3": "epochs: 1",
    "threshold: 0.6": "threshold: 0.0",
    "min_improvement: -0.005": "min_improvement: -1.0",
    "refit: true": "refit: false",
}
"""Of flights: any model will do here."""

pytestmark = pytest.mark.timeout(END_S + 120)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A running stack with the pipeline deployed."""
    stage = Stage(Home(tmp_path_factory.mktemp("chaos") / "home"))
    folder = tmp_path_factory.mktemp("pipelines") / "flights"
    shutil.copytree(PIPELINE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = (folder / "pipeline.yaml").read_text()
    for old, new in SETTINGS.items():
        assert old in text, old
        text = text.replace(old, new)
    (folder / "pipeline.yaml").write_text(text)
    try:
        stage.ct("up", "--detach")
        stage.ct("deploy", str(folder))
        yield stage
    finally:
        stage.ct("down")


@pytest.fixture(scope="module")
def planned(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The landings, made of January's flights."""
    folder = tmp_path_factory.mktemp("sample")
    stage.ct("sample", "flights", "--to", str(folder), "--months", "1", "--format", "csv")
    with next(folder.glob("*.csv")).open(encoding="utf-8", newline="") as file:
        return plan(list(csv.DictReader(file)), SEED)


def test_every_span_comes_to_its_end_once_whatever_is_killed(stage: Stage, planned: Plan) -> None:
    """Good: in the window of exactly one judged run as new. Bad: refused, with a reason. No event without an end."""
    began = time.monotonic()
    kills = _land_and_kill(stage, planned)
    click.echo(f"seed {SEED}: {len(planned.landings)} landings, killed: {dict(kills)}")
    spans: dict[str, Any] = {}
    while time.monotonic() < began + END_S:
        spans = _spans(stage)
        if _is_quiet(stage, spans, planned):
            break
        time.sleep(2)
    trained = _trained(stage)
    for name in sorted(planned.good):
        (record,) = _with_the_bytes_of(name, spans)
        span = record["span"]["name"], record["span"]["revision"]
        assert record["state"] == "trained", record
        assert trained[span] == 1, (span, trained[span])
    assert max(trained.values()) == 1, [key for key, count in trained.items() if count > 1]
    for name in planned.corrupt:
        assert spans[name]["state"] == "refused", spans[name]
        assert spans[name]["reason"]
    assert not planned.abandoned & spans.keys()
    _every_event_has_an_end(stage, planned)


def _land_and_kill(stage: Stage, planned: Plan) -> Counter[str]:
    """Land everything over LAND_S, and kill at random meanwhile; what was killed how often."""
    draw = random.Random(SEED)  # noqa: S311  to be repeated
    folder = stage.home.landing / "flights"
    began = time.monotonic()
    every = LAND_S / len(planned.landings)
    todo: list[tuple[float, Landing, int | None]] = []
    for number, landing in enumerate(planned.landings):
        if landing.torn:
            todo += [(number * every, landing, 0), (number * every + TORN_S, landing, 1)]
        else:
            todo.append((number * every, landing, None))
    kill_at, killed = began + 20, Counter[str]()
    for at, landing, half in sorted(todo, key=lambda entry: entry[0]):
        while time.monotonic() < began + at:
            if time.monotonic() >= kill_at:
                killed[_kill(stage, draw)] += 1
                kill_at = time.monotonic() + draw.uniform(*KILL_EVERY_S)
            time.sleep(0.05)
        land(landing, folder, half)
    return killed


def _kill(stage: Stage, draw: random.Random) -> str:
    name = draw.choice(VICTIMS)
    pids = {process["name"]: process["pid"] for process in stage.ct_json("status")["processes"]}
    if not pids.get(name):
        return f"{name} (was away)"
    victims = [pids[name]]
    if name == "worker":  # and the node that it runs, every other time
        with suppress(psutil.NoSuchProcess):
            victims += [child.pid for child in psutil.Process(pids[name]).children()][: draw.randrange(2)]
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return name


def _spans(stage: Stage) -> dict[str, Any]:
    (pipeline,) = stage.ct_json("status")["pipelines"]
    return {record["span"]["name"]: record for record in pipeline["spans"]}


def _is_quiet(stage: Stage, spans: dict[str, Any], planned: Plan) -> bool:
    """Everything is in the ledger, nothing waits and nothing runs."""
    if not planned.corrupt <= spans.keys() or not all(_with_the_bytes_of(name, spans) for name in planned.good):
        return False
    if any(record["state"] in ("waiting", "claimed") for record in spans.values()):
        return False
    return not any(run["status"] == "running" for run in stage.ct_json("runs", "flights", "--limit", "1000"))


def _with_the_bytes_of(name: str, spans: dict[str, Any]) -> list[Any]:
    """The spans that have the bytes of one: the other is a duplicate."""
    return [spans[known] for known in (name, f"{name}-copy") if known in spans]


def _trained(stage: Stage) -> Counter[tuple[str, int]]:
    """Span and revision -> how many judged runs had it as new, straight from the ledger."""
    with closing(sqlite3.connect(stage.home.ledger)) as connection:
        rows = connection.execute(
            "SELECT claimed FROM runs WHERE status IN ('approved', 'refused', 'inconclusive')"
        ).fetchall()
    return Counter((name, revision) for (claimed,) in rows for name, revision in json.loads(claimed))


def _every_event_has_an_end(stage: Stage, planned: Plan) -> None:
    ends = stage.ct_json("events", "flights", "--limit", "10000")
    counted = Counter(end["end"] for end in ends)
    click.echo(f"events: {dict(counted)}")
    unfinished = [end for end in ends if end["end"] in ("waiting", "incomplete")]
    assert {end["event"]["name"] for end in unfinished} <= planned.abandoned, unfinished
    assert counted["duplicate"] >= len(planned.copies)
    assert counted["rejected"] >= len(planned.corrupt)
