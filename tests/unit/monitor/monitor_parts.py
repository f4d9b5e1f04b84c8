"""A prediction log, versions and serving's counters, for tests of the monitor; no process and no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ct.contracts import Check, CheckOutcome
from ct.rollout import ModelStore, apply, plan_rollout
from tests.manifests import VERDICT, manifest_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ct.home import Home

T0 = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
KEEP = 3


class NoRegistry:
    """There is none in these tests."""

    def point_champion(self, name: str, version: int) -> None:
        """Nothing to point."""

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Nothing to tag."""


def stage(store: ModelStore, folder: Path, version: int, *, brier: float | None = None) -> None:
    """Put a version into the store, approved with this Brier score."""
    saved_model = folder / f"model{version}"
    saved_model.mkdir(parents=True)
    (saved_model / "saved_model.pb").write_text(f"version {version}")
    manifest = manifest_of(store.name, version, saved_model)
    check = Check(name="brier", metric="brier", value=brier, threshold=0.5, outcome=CheckOutcome.PASS)
    verdict = VERDICT.model_copy(update={"checks": () if brier is None else (check,)})
    store.stage(saved_model, manifest.model_copy(update={"verdict": verdict}), {"instances": [], "predictions": []})


def roll_out(store: ModelStore, version: int, at: datetime) -> None:
    """Let a version serve from a moment on."""
    plan = plan_rollout(store.name, version, reached=store.reached(), **store.facts(KEEP))
    apply(plan, store, NoRegistry(), actor="t", reason="t", clock=lambda: at)


def log_rows(home: Home, model: str, version: int, predictions: Sequence[float], at: datetime, name: str) -> list[str]:
    """Log a request of one row for each prediction, in a file of this name; the request ids."""
    ids = [f"{name}-{number}" for number in range(len(predictions))]
    write_log(
        home, model, version, [(request_id, 0, p) for request_id, p in zip(ids, predictions, strict=True)], at, name
    )
    return ids


def write_log(
    home: Home, model: str, version: int, rows: Sequence[tuple[str, int, float]], at: datetime, name: str
) -> None:
    """Log rows: request id, row, prediction."""
    path = home.predictions(model) / f"{at:%Y-%m-%d}" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    count = len(rows)
    table = pa.table(
        {
            "ct_request_id": pa.array([row[0] for row in rows], pa.string()),
            "ct_row": pa.array([row[1] for row in rows], pa.int32()),
            "ct_trace_id": pa.array([None] * count, pa.string()),
            "ct_at": pa.array([at] * count, pa.timestamp("us", tz="UTC")),
            "ct_version": pa.array([version] * count, pa.int32()),
            "ct_variant": pa.array(["champion"] * count).dictionary_encode(),
            "ct_prediction": pa.array([row[2] for row in rows], pa.float32()),
        }
    )
    pq.write_table(table, path)


def write_pairs(folder: Path, rows: Sequence[tuple[str, float, float]], number: int = 1) -> None:
    """What serving.replay.pairs leaves: request id, the new version's prediction, the previous one's."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "request_id": pa.array([row[0] for row in rows], pa.string()),
            "row": pa.array([0] * len(rows), pa.int32()),
            "new": pa.array([row[1] for row in rows], pa.float32()),
            "previous": pa.array([row[2] for row in rows], pa.float32()),
        }
    )
    pq.write_table(table, folder / f"{number:06d}.parquet")


@dataclass
class FakeServing:
    """Serving's counters: version -> (requests, of them failed, of them slow)."""

    model: str = "flights"
    counts: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    canaries: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def __call__(self) -> str:
        """The text of `/metrics`."""
        lines = ["# HELP ct_requests_total Requests answered."]
        counted = [("champion", *each) for each in self.counts.items()]
        counted += [("canary", *each) for each in self.canaries.items()]
        for variant, version, (requests, failed, slow) in counted:
            of = f'model="{self.model}",version="{version}",variant="{variant}"'
            for code, count in (("200", requests - failed), ("503", failed)):
                lines.append(f'ct_requests_total{{{of},protocol="v2",code="{code}"}} {float(count)}')
            for limit, count in (("0.001", requests - slow), ("1.0", requests), ("+Inf", requests)):
                lines.append(f'ct_request_seconds_bucket{{{of},le="{limit}"}} {float(count)}')
        return "\n".join(lines) + "\n"


@dataclass
class FakePairing:
    """Starts no process; the tests write pairs themselves."""

    problem: str | None = None

    def go_on(self, watch: Any, now: datetime) -> None:
        """Nothing is due."""

    def stop(self) -> None:
        """Nothing runs."""
