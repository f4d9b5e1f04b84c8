"""The trigger on Airflow's triggerer, run without Airflow around it."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.triggers.base import BaseEventTrigger

from ct.airflow.watcher import SpanTrigger, pause_between_looks
from ct.config import PipelineConfig
from ct.contracts import DeployedSpec
from ct.home import Home, write_atomically
from ct.triggers.ledger import Ledger
from ct.triggers.records import EventOutcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOW = datetime(2013, 1, 1, tzinfo=timezone.utc)
FAST = {"poll_interval_s": 0.01, "settle_s": 0}


def configured(source: dict[str, Any], trigger: dict[str, Any]) -> PipelineConfig:
    """A pipeline with this source and trigger."""
    config = {
        "name": "p",
        "description": "d",
        "owner": "o",
        "label": "y",
        "source": source,
        "trigger": trigger,
        "window": {"time_column": "t"},
        "gate": {"threshold": 0.5},
    }
    return PipelineConfig.model_validate(config)


def deploy(home: Home, spec_hash: str, source: dict[str, Any], **trigger: Any) -> None:
    """Store a spec as `ct deploy` does."""
    spec = DeployedSpec(
        spec_hash=spec_hash,
        pipeline="p",
        config=configured(source, {**FAST, **trigger}).model_dump(mode="json"),
        nodes=(),
        readme="",
        deployed_at=NOW,
        code_commit=None,
        requirement_hashes={},
    )
    write_atomically(home.deployed / "p" / "specs" / spec.spec_hash / "spec.json", spec.model_dump_json())
    write_atomically(home.deployed / "p" / "current.json", json.dumps({"spec_hash": spec.spec_hash}))


def write(home: Home, folder: str, name: str) -> None:
    """A file lands."""
    (home.root / folder).mkdir(exist_ok=True)
    (home.root / folder / f"{name}.csv").write_text(f"a\n{name}\n")


async def following(events: AsyncIterator[Any]) -> list[str]:
    """The spans of the next event."""
    event = await asyncio.wait_for(anext(events), 30)
    assert event.payload["pipeline"] == "p"
    spans: list[str] = event.payload["spans"]
    return spans


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path).create()


def test_what_airflow_stores_makes_a_trigger_that_names_what_landed(home: Home) -> None:
    """It stores the pipeline and nothing that a redeploy may change; what an earlier ct stored still starts."""
    deploy(home, "1", {"path": "in", "pattern": "*.csv"})
    write(home, "in", "jan")
    trigger = SpanTrigger(home=str(home.root), pipeline="p", folder="/gone", pattern="*.csv", settle_s=2.0)
    path, values = trigger.serialize()
    assert path == f"{SpanTrigger.__module__}.{SpanTrigger.__name__}"
    assert values == {"home": str(home.root), "pipeline": "p"}
    again = SpanTrigger(**values)
    assert isinstance(again, BaseEventTrigger)

    async def first() -> list[str]:
        async with aclosing(again.run()) as events:
            return await following(events)

    assert asyncio.run(first()) == ["jan revision 1"]


def test_a_redeploy_changes_the_watch_of_a_trigger_that_goes_on(home: Home) -> None:
    """Airflow keeps the old trigger: its arguments are the same. The new folder is looked at, and pausing stops it."""
    deploy(home, "1", {"path": "sample", "pattern": "*.csv"})
    write(home, "sample", "jan")

    async def story() -> tuple[list[str], list[str]]:
        async with aclosing(SpanTrigger(home=str(home.root), pipeline="p").run()) as events:
            first = await following(events)
            deploy(home, "2", {"path": "live", "pattern": "*.csv"})
            write(home, "live", "feb")
            return first, await following(events)

    assert asyncio.run(story()) == (["jan revision 1"], ["feb revision 1", "jan revision 1"])


def test_a_connection_that_airflow_lacks_is_written_down_and_asked_for_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ending the watch: it is there as soon as somebody made it."""
    deploy(home, "1", {"kind": "s3", "uri": "s3://lake/flights", "connection": "lake"})
    monkeypatch.setattr("ct.airflow.watcher.AFTER_TROUBLE_S", 0.01)
    asked = 0
    often = asyncio.Event()

    async def missing(conn_id: str) -> Any:
        nonlocal asked
        asked += 1
        if asked == 3:
            often.set()
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")

    monkeypatch.setattr(BaseHook, "aget_connection", missing)

    async def story() -> None:
        async with aclosing(SpanTrigger(home=str(home.root), pipeline="p").run()) as events:
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.wait_for(often.wait(), 30)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(story())
    (event,) = Ledger.open(home).events("p")
    assert event.outcome is EventOutcome.UNREADABLE
    assert '"lake", and Airflow does not have it' in event.message


def test_a_pipeline_that_is_not_deployed_any_more_is_waited_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow ends the trigger when the DAG is gone; until then it neither fails nor announces."""
    monkeypatch.setattr("ct.airflow.watcher.AFTER_TROUBLE_S", 0.01)

    async def story() -> list[str]:
        async with aclosing(SpanTrigger(home=str(home.root), pipeline="p").run()) as events:
            waiting = asyncio.ensure_future(following(events))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            deploy(home, "1", {"path": "in", "pattern": "*.csv"})
            write(home, "in", "jan")
            return await waiting

    assert asyncio.run(story()) == ["jan revision 1"]


@pytest.mark.parametrize(
    ("source", "trigger", "listed", "pause_s"),
    [
        ({"path": "/data", "pattern": "*.csv"}, {}, 12, 0.25),
        ({"path": "/data", "pattern": "*.csv"}, {}, 20_000, 2.0),
        ({"path": "/data", "pattern": "*.csv"}, {"poll_interval_s": 60}, 20_000, 60),
        ({"kind": "redis", "connection": "cache", "stream": "rows", "span_rows": 10}, {}, 12, 1.0),
    ],
)
def test_looks_are_as_close_as_the_source_can_bear(
    source: dict[str, Any], trigger: dict[str, Any], listed: int, pause_s: float
) -> None:
    """A folder is looked at often, a large one less often, another source each second; pipeline.yaml overrules all."""
    assert pause_between_looks(configured(source, trigger), listed) == pytest.approx(pause_s)
