"""`ct events` as a shell sees it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ct.cli.main import cli
from ct.config import PipelineConfig
from ct.contracts import DeployedSpec, TriggerKind
from ct.home import Home, write_atomically
from ct.triggers.claims import Ask
from ct.triggers.ledger import Ledger
from ct.triggers.records import Arrival, EventOutcome, RunStatus, SkipCause

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = datetime(2013, 1, 1, tzinfo=timezone.utc)


class Stage:
    """A home with the pipeline `trips`, and a clock in the test's hand."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.now = BEGIN
        self.ledger = Ledger.open(home, lambda: self.now)

    def land(self, name: str, sha256: str | None = None, rows: int = 60) -> None:
        """A file lands."""
        uri = f"/in/{name}.csv"
        values = {"format": "csv", "sha256": sha256 or name, "size_bytes": 3, "fingerprint": sha256 or name}
        self.ledger.record_landing("trips", Arrival(name=name, source_uri=uri, uri=uri, rows=rows, **values))

    def run(self, name: str, trigger: TriggerKind = TriggerKind.SCHEDULE, **more: Any) -> bool:
        """A run claims what waits; whether it got something."""
        ask = Ask("trips", f"trips-{name}", trigger, "trips", name, self.now, None, **more)
        return self.ledger.claim(ask) is not None

    def ends(self, name: str, status: RunStatus, seconds: float, **more: Any) -> None:
        """The run ends so many seconds later."""
        self.now += timedelta(seconds=seconds)
        self.ledger.finish_run(f"trips-{name}", status, **more)

    def ct(self, *arguments: str) -> str:
        """What the command prints."""
        done = CliRunner().invoke(cli, ["events", *arguments], env={"CT_HOME": str(self.home.root)})
        assert done.exit_code == 0, done.output
        return done.output


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Nothing has landed."""
    home = Home(tmp_path).create()
    config = {
        "name": "trips",
        "description": "d",
        "owner": "o",
        "label": "y",
        "trigger": {"min_new_rows": 100},
        "window": {"time_column": "t"},
        "gate": {"threshold": 0.5},
    }
    spec = DeployedSpec(
        spec_hash="0" * 16,
        pipeline="trips",
        config=PipelineConfig.model_validate(config).model_dump(mode="json"),
        nodes=(),
        readme="",
        deployed_at=BEGIN,
        code_commit=None,
        requirement_hashes={},
    )
    folder = home.deployed / "trips"
    write_atomically(folder / "specs" / spec.spec_hash / "spec.json", spec.model_dump_json())
    write_atomically(folder / "current.json", json.dumps({"spec_hash": spec.spec_hash}))
    return Stage(home)


def test_each_event_is_shown_with_its_end(stage: Stage) -> None:
    """Consumed by which run, waiting for what, superseded by what, duplicate of what, rejected why, or incomplete."""
    stage.land("bad")
    stage.land("jan")
    stage.run("r1")
    stage.ends("r1", RunStatus.SKIPPED, 1, cause=SkipCause.UNREADABLE_SPAN, refused={"bad": "it has no rows"})
    stage.run("r2")
    stage.ends("r2", RunStatus.APPROVED, 60, version=4)
    stage.land("copy", "jan")
    stage.land("feb", "f1")
    stage.land("feb", "f2")
    stage.ledger.record_event("trips", "half", EventOutcome.INCOMPLETE, "half is not picked up", uri="/in/half.csv")
    told = json.loads(stage.ct("trips", "--json"))
    assert [(end["event"]["name"], end["end"], end["why"]) for end in reversed(told)] == [
        ("bad", "rejected", "it has no rows"),
        ("jan", "consumed", "trips-r2, judged: approved as version 4"),
        ("copy", "duplicate", "the same bytes as jan, revision 1"),
        ("feb", "superseded", "revision 2 landed"),
        ("feb", "waiting", "60 of 100 new rows are there"),
        ("half", "incomplete", "half is not picked up"),
    ]
    assert "60 of 100 new rows are there" in next(line for line in stage.ct().splitlines() if "waiting" in line)


def test_no_events_say_what_to_do(stage: Stage) -> None:
    """Where to put a span."""
    assert "drop a span into" in stage.ct()
    assert "landing/trips" in stage.ct("trips")


def test_a_pipeline_that_is_not_deployed_is_an_error(stage: Stage) -> None:
    """More likely a typo than a pipeline without events."""
    done = CliRunner().invoke(cli, ["events", "trip"], env={"CT_HOME": str(stage.home.root)})
    assert done.exception is not None
    assert "trips" in str(done.exception)


def test_saved_sums_what_skipped_runs_saved_and_says_what_that_rests_on(stage: Stage) -> None:
    """By reason; the median of whole runs minus what a skipped one took. What would not have trained is not counted."""
    for number, seconds in enumerate((50, 100, 3600)):
        stage.land(f"s{number}")
        stage.run(f"whole{number}")
        stage.ends(f"whole{number}", RunStatus.REFUSED, seconds)
    stage.run("nothing")
    stage.run("twice", TriggerKind.DATA)
    stage.land("bad")
    stage.run("broken")
    stage.ends("broken", RunStatus.SKIPPED, 40, cause=SkipCause.SCHEMA_BREAK, refused={"bad": "a new column"})
    (told,) = json.loads(stage.ct("--saved", "--json"))
    assert told == {
        "pipeline": "trips",
        "saved": [
            {"cause": "no new data", "runs": 1, "seconds": 100.0},
            {"cause": "schema break", "runs": 1, "seconds": 60.0},
        ],
        "seconds": 160.0,
        "typical_s": 100.0,
        "rests_on": 3,
        "not_counted": 1,
    }
    lines = stage.ct("trips", "--saved")
    assert "about 2.7 min saved by 2 runs" in lines
    assert "the median of 3 whole runs, 1.7 min" in lines
    assert "not counted: 1" in lines


def test_nothing_is_claimed_to_be_saved_before_a_run_was_whole(stage: Stage) -> None:
    """There is nothing to measure it by."""
    stage.run("nothing")
    assert "unknown until a run has been whole" in stage.ct("--saved")
