"""What a worker counts: predictions that are no number, queues of models that hang, gauges of workers that were killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ct.contracts import Feature
from ct.settings import Settings
from serving.metrics import mark_dead_workers
from serving.plane.data_plane import DataPlane
from serving.plane.table import ModelTable, ServedModel
from serving.rows import Layout, from_columns

if TYPE_CHECKING:
    from pathlib import Path

    from serving.metrics import Metrics
    from serving.rows import Rows

LAYOUT = Layout((Feature(name="x", dtype="float32"),))
WORKER = """
import sys, time
from serving.metrics import Metrics
metrics = Metrics()
metrics.serves("trips", int(sys.argv[1]))
metrics.waits("trips", int(sys.argv[1]), 5)
metrics.lost("access", 1)
print("ready", flush=True)
time.sleep(60)
"""


def sample(name: str, **labels: str) -> float | None:
    """A value as it is shown."""
    import prometheus_client  # noqa: PLC0415  after the fixture has chosen where numbers are kept

    return prometheus_client.REGISTRY.get_sample_value(name, labels)


@pytest.mark.parametrize("others", [[], [0.25]], ids=["one row", "two rows"])
def test_a_prediction_that_is_no_number_is_in_no_tenth(metrics: Metrics, others: list[float]) -> None:
    """And does no harm; what is out of range counts at the ends."""
    model = f"nan-{len(others)}"
    for value in (np.nan, np.inf, -np.inf, 0.99, 1.5):
        metrics.predicted(model, 1, "champion", np.array([value, *others], np.float32))
    counted = {
        tenth: sample("ct_predictions_total", model=model, version="1", variant="champion", tenth=str(tenth))
        for tenth in (0, 2, 9)
    }
    assert counted == {0: 1, 2: 5 if others else None, 9: 3}


def test_dropped_shadow_rows_have_a_counter_of_their_own(metrics: Metrics) -> None:
    """They are no records of a log."""
    metrics.shadow_dropped("dropping", 3, 2)
    assert sample("ct_shadow_dropped_total", model="dropping", version="3") == 2


def test_rows_that_wait_are_shown_also_while_the_model_hangs(metrics: Metrics) -> None:
    """No batch ends then, which tells how many wait otherwise."""
    may_go = threading.Event()

    def predict(rows: Rows) -> np.ndarray[Any, Any]:
        may_go.wait(20)
        return np.zeros(rows.count, np.float32)

    version: Any = type("Version", (), {})()
    version.__dict__ |= {"version": 1, "inline_rows": 0, "batcher": None, "predict": predict}
    version.manifest = SimpleNamespace(name="hanging")
    table = ModelTable()
    table.put(ServedModel("hanging", version, MappingProxyType({1: version})))

    def waiting() -> float | None:
        return sample("ct_waiting_rows", model="hanging", version="1")

    async def story() -> None:
        plane = DataPlane(table, Settings(), metrics, SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
        answered = asyncio.Event()
        plane.gauge()
        assert waiting() is None
        for count in (1, 2, 3):
            rows = from_columns(LAYOUT, {"x": [1.0] * count}, "inputs")
            plane.predict(version, rows, lambda *_: answered.set())
            await asyncio.sleep(0)
        await asyncio.to_thread(plane.gauge)
        assert waiting() == 5
        may_go.set()
        await asyncio.wait_for(answered.wait(), 10)
        await asyncio.sleep(0)
        plane.gauge()
        assert waiting() == 0
        plane.close()

    asyncio.run(story())


def test_the_gauges_of_a_killed_worker_go_and_its_counts_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL leaves it no time to say so; the next worker does."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, version], stdout=subprocess.PIPE, env=os.environ)
        for version in ("2", "3")
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
        os.kill(workers[1].pid, signal.SIGKILL)
        workers[1].wait()
        assert shown(tmp_path)["ct_serving_version"] == 3
        mark_dead_workers()
        mark_dead_workers()
        assert shown(tmp_path) == {"ct_serving_version": 2, "ct_waiting_rows": 5, "ct_log_lost_total": 2}
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()


def test_without_a_folder_of_numbers_there_is_nothing_to_remove(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process alone has them in memory."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    mark_dead_workers()


def shown(folder: Path) -> dict[str, float]:
    """Metric -> its value over all workers, as `/metrics` adds them up."""
    from prometheus_client import CollectorRegistry  # noqa: PLC0415  as in `sample`
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    found: dict[str, float] = {}
    for metric in registry.collect():
        for each in metric.samples:
            found[each.name] = found.get(each.name, 0) + each.value
    return found
