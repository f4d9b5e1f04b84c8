"""The story: months of flights land one after the other, each retrains, approved versions serve, and one rollback.

Every step goes through the front doors: the `ct` command, files in the landing folder, HTTP.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct.cli.run_progress import RunProgress
from ct.contracts import NodeResult, Verdict
from ct.daemon import sweep
from ct.rollout import ModelStore
from ct.triggers.ledger import Ledger
from ct.triggers.records import JUDGED, RunStatus
from demo.report import Month, Story
from demo.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ct.home import Home
    from ct.triggers.records import RunRecord

PIPELINE = "flights"
PROJECT = Path(__file__).resolve().parent.parent
POLL_S = 0.5
RUN_TIMEOUT_S = 600.0
ROWS_A_REQUEST = 1000
TRAFFIC_ROWS = 500


class StoryError(Exception):
    """The story did not go as it must. The message says where, and where the logs are."""


@dataclass(frozen=True)
class Setting:
    """Where and on what the story plays."""

    home: Home
    months: Sequence[int]
    rows_per_month: int | None
    """Rows of each month to use; None for all."""

    say: Callable[[str], None]
    pipeline: Path = PROJECT / "pipelines" / PIPELINE
    """The pipeline's folder."""


class Stage:
    """The `ct` command against one home, on ports of its own."""

    def __init__(self, home: Home) -> None:
        self.home = home
        airflow, mlflow, serving = _free_ports(3)
        self.environment = {
            **os.environ,
            "CT_HOME": str(home.root),
            "CT_AIRFLOW_PORT": str(airflow),
            "CT_MLFLOW_PORT": str(mlflow),
            "CT_SERVING_PORT": str(serving),
        }
        self.serving = f"http://127.0.0.1:{serving}"

    def ct(self, *arguments: str) -> None:
        """Run a command, its output to the terminal.

        Raises:
            StoryError: it exits with anything but 0.
        """
        done = subprocess.run([*self._command(), *arguments], env=self.environment, cwd=PROJECT, check=False)
        if done.returncode != 0:
            raise StoryError(f"`ct {' '.join(arguments)}` exited with {done.returncode}. Logs are in {self.home.logs}.")

    def ct_json(self, *arguments: str) -> Any:
        """Run a command with `--json` and return what it printed.

        Raises:
            StoryError: it exits with anything but 0.
        """
        done = subprocess.run(
            [*self._command(), *arguments, "--json"],
            env=self.environment,
            cwd=PROJECT,
            check=False,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode != 0:
            raise StoryError(f"`ct {' '.join(arguments)} --json` exited with {done.returncode}: {done.stdout}")
        return json.loads(done.stdout)

    @staticmethod
    def _command() -> list[str]:
        return [str(Path(sys.executable).with_name("ct"))]


@dataclass(frozen=True)
class Landed:
    """A span that landed, and the run that judged it."""

    span: str
    path: Path
    """Where it is in the landing folder."""
    rows: int
    at: float
    """Seconds since the epoch."""
    run: RunRecord
    verdict: Verdict


def tell(setting: Setting) -> Story:
    """Play the whole story on a fresh home and return what happened.

    Raises:
        StoryError: a command failed, or a run did not end.
    """
    began = time.monotonic()
    stage = Stage(setting.home)
    staged = setting.home.root.with_name(f"{setting.home.root.name}-spans")
    spans = sample(stage, staged, setting)
    with ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, staged)
        cleanup.callback(stage.ct, "down")
        stage.ct("up", "--detach")
        stage.ct("deploy", str(setting.pipeline))
        traffic = cleanup.enter_context(
            Traffic(f"{stage.serving}/v1/models/{PIPELINE}:predict", _instances(spans[0])[:TRAFFIC_ROWS])
        )
        months = []
        for span in spans:
            month = _month(stage, land(stage, span, setting.say))
            months.append(month)
            if month.seconds_to_serving is not None:
                traffic.start()
        rollback = stage.ct_json("rollback", PIPELINE)
        setting.say(f"rolled back from version {rollback['from']} to {rollback['to']} in {rollback['seconds']:.2f} s")
    return Story(
        months=tuple(months),
        rolled_back_from=rollback["from"],
        rolled_back_to=rollback["to"],
        rollback_seconds=rollback["seconds"],
        traffic=traffic.report(),
        total_seconds=time.monotonic() - began,
        left_behind=len(_processes_of(setting.home)),
    )


def problems(story: Story) -> list[str]:
    """What is wrong with a story that was told to its end; empty when all is well."""
    served = {month.version for month in story.months if month.seconds_to_serving is not None}
    checks = (
        (story.traffic.failed == 0, f"{story.traffic.failed} requests failed: {', '.join(story.traffic.failures)}"),
        (story.traffic.requests > 0, "no request was sent"),
        (len(served) >= 2, f"only {len(served)} version was served"),  # noqa: PLR2004  a rollback needs two
        (story.rolled_back_to in served, f"the rollback went to {story.rolled_back_to}, which was not served before"),
        (story.left_behind == 0, f"`ct down` left {story.left_behind} processes behind"),
    )
    return [problem for good, problem in checks if not good]


def clear(home: Home) -> None:
    """End what an interrupted story left running, and remove its home. There need not be one."""
    from ct.daemon.down import down  # noqa: PLC0415

    if home.exists:
        down(home)
        shutil.rmtree(home.root)


def sample(stage: Stage, folder: Path, setting: Setting) -> list[Path]:
    """The months as Parquet files beside the home, to be landed one by one."""
    first, last = min(setting.months), max(setting.months)
    rows = [] if setting.rows_per_month is None else ["--rows", str(setting.rows_per_month)]
    stage.ct("sample", PIPELINE, "--to", str(folder), "--months", f"{first}-{last}", *rows)
    return sorted(folder.glob("*.parquet"))


def land(stage: Stage, span: Path, say: Callable[[str], None]) -> Landed:
    """Land one span, and await the run that judges it.

    Raises:
        StoryError: no run of it was judged.
    """
    landing = stage.home.landing / PIPELINE
    landing.mkdir(parents=True, exist_ok=True)
    landed_at = time.time()
    path = span.rename(landing / span.name)
    say(f"{span.stem} landed")
    run = _await_run(stage.home, span.stem, say)
    verdict = Verdict.model_validate(_gate_facts(stage.home, run)["verdict"])
    say(f"{span.stem}: {verdict.outcome.value}: {verdict.reason}")
    return Landed(span.stem, path, _row_count(path), landed_at, run, verdict)


def _month(stage: Stage, landed: Landed) -> Month:
    """What the story tells of a month."""
    verdict, version = landed.verdict, landed.run.version
    judged = next(check for check in verdict.checks if check.slice == "overall")
    store = ModelStore(stage.home, PIPELINE)
    served_at = [entry.at.timestamp() for entry in store.history() if entry.version == version]
    return Month(
        span=landed.span,
        rows=landed.rows,
        seconds_to_serving=served_at[0] - landed.at if served_at else None,
        candidate_auc=_number(judged.value),
        champion_auc=judged_against(verdict),
        january_auc=_january_auc(stage, landed.path) if verdict.champion_version else None,
        verdict=verdict.outcome.value,
        reason=verdict.reason,
        version=version,
    )


def judged_against(verdict: Verdict) -> float | None:
    """The champion's value of the metric the gate decided on."""
    return next((c.baseline for c in verdict.checks if c.slice == "overall" and c.baseline is not None), None)


def _await_run(home: Home, span: str, say: Callable[[str], None]) -> RunRecord:
    """Await the end of the run that took this span, saying each node as it finishes.

    Raises:
        StoryError: it failed, or no run ended in time.
    """
    ledger = Ledger.open(home)
    progress = RunProgress(home, say)
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while time.monotonic() < deadline:
        run = next((run for run in ledger.runs(PIPELINE) if span in run.spans), None)
        if run is not None:
            progress.look(run)
            if run.status in JUDGED:
                return run
            if run.status is not RunStatus.RUNNING:
                raise StoryError(
                    f"run {run.run_id} of {span} {run.status.value}: {run.message}. See `ct logs {run.run_id}`."
                )
        time.sleep(POLL_S)
    raise StoryError(f"no run of {span} ended within {RUN_TIMEOUT_S:.0f} s. Logs are in {home.logs}.")


def _gate_facts(home: Home, run: RunRecord) -> dict[str, Any]:
    path = home.runs / run.run_id / "Gate.result.json"
    return NodeResult.model_validate_json(path.read_text(encoding="utf-8")).facts


def _instances(span: Path) -> list[dict[str, Any]]:
    """A span's rows as the instances of a predict request: the features, without label and time."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    table = pq.read_table(span)  # type: ignore[no-untyped-call]
    features = [name for name in table.column_names if name not in ("arr_late", "time_hour")]
    rows: list[dict[str, Any]] = table.select(features).drop_null().to_pylist()
    return rows


def _january_auc(stage: Stage, span: Path) -> float:
    """The AUC of version 1, which is kept warm, on a span's rows, asked over HTTP."""
    import httpx  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415

    table = pq.read_table(span).drop_null()  # type: ignore[no-untyped-call]
    labels = table["arr_late"].to_pylist()
    columns = table.drop_columns(["arr_late", "time_hour"])
    scores: list[float] = []
    with httpx.Client(base_url=stage.serving, timeout=30) as client:
        for begin in range(0, len(labels), ROWS_A_REQUEST):
            inputs = columns.slice(begin, ROWS_A_REQUEST).to_pydict()
            response = client.post(f"/v1/models/{PIPELINE}/versions/1:predict", json={"inputs": inputs})
            response.raise_for_status()
            scores.extend(response.json()["outputs"])
    return float(roc_auc_score(labels, scores))


def _row_count(span: Path) -> int:
    import pyarrow.parquet as pq  # noqa: PLC0415

    return int(pq.read_metadata(span).num_rows)  # type: ignore[no-untyped-call]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, so that the demo runs beside a `ct up` of yours."""
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _processes_of(home: Home) -> list[int]:
    """Pids of the home's processes that still run."""
    return sweep.marked({sweep.INSTANCE: home.instance})
