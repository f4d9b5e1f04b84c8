"""`ct status`: processes, what serves, the last run of each pipeline, and spans that wait or were refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ct.cli.models import beside_lines
from ct.cli.output import ago, json_option, print_json, print_table
from ct.cli.runs import waiting_line, waits_for_person

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ct.contracts import DesiredState, WorkerState
    from ct.daemon.status import Status
    from ct.home import Home
    from ct.triggers.records import EventRecord, RunRecord, SpanRecord
    from ct.verdict_page.record import Question

SHOWN_AT_MOST = 5


@click.command()
@json_option
def status(as_json: bool) -> None:  # noqa: FBT001
    """What runs, what serves, the last runs, and spans in trouble."""
    from ct.daemon.status import status as ask  # noqa: PLC0415
    from ct.deploy import deployed_pipelines  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    found = ask(home, Settings.load(home))
    pipelines = [PipelineStatus(home, name) for name in deployed_pipelines(home)]
    if as_json:
        values = [pipeline.json for pipeline in pipelines]
        print_json({**found.model_dump(mode="json"), "healthy": found.healthy, "pipelines": values})
        return
    _print_processes(found)
    for pipeline in pipelines:
        click.echo("\n".join(["", *pipeline.lines()]))
    if not pipelines:
        click.echo("no pipeline is deployed; `ct deploy pipelines/flights` deploys the example")


def _print_processes(found: Status) -> None:
    if not found.daemon_alive:
        click.echo(f"nothing runs in {found.home}; start it with `ct up`")
    else:
        rows = [
            (
                process.name,
                "healthy" if process.healthy else process.problem or process.state,
                process.pid,
                ago(process.since),
                process.restarts,
                process.address,
            )
            for process in found.processes
        ]
        print_table(f"processes in {found.home}", ("process", "state", "pid", "since", "restarts", "address"), rows)
    if found.last_heal:
        click.echo(f"healed {ago(found.last_heal.at)}: {found.last_heal.message}")


class PipelineStatus:
    """What there is to know of one deployed pipeline, read when it is made."""

    def __init__(self, home: Home, name: str) -> None:
        from ct.rollout import ModelStore, serving_since  # noqa: PLC0415
        from ct.triggers.ledger import Ledger  # noqa: PLC0415

        ledger, store = Ledger.open(home), ModelStore(home, name)
        self.name = name
        self.landing = home.landing / name
        self.desired: DesiredState | None = store.desired()
        began = serving_since(store.history())
        self.since = began.at if began else None
        self.workers: tuple[WorkerState, ...] = store.live_workers()
        self.last_run: RunRecord | None = next(iter(ledger.runs(name, limit=1)), None)
        self.question: Question | None = waits_for_person(home, self.last_run) if self.last_run else None
        self.spans: tuple[SpanRecord, ...] = ledger.spans(name)
        self.unsettled: tuple[EventRecord, ...] = ledger.unsettled(name)
        self.quarantine: dict[str, Path] = {path.stem: path for path in sorted(home.quarantine(name).glob("*.jsonl"))}

    @property
    def json(self) -> dict[str, Any]:
        """The same for scripts."""
        return {
            "name": self.name,
            "serving": self.desired.version if self.desired else None,
            "since": self.since.isoformat() if self.since else None,
            "canary": self.desired.canary.model_dump(mode="json") if self.desired and self.desired.canary else None,
            "shadow": self.desired.shadow if self.desired else None,
            "workers": [worker.model_dump(mode="json") for worker in self.workers],
            "last_run": self.last_run.model_dump(mode="json") if self.last_run else None,
            "waits_for_person": self.question.model_dump(mode="json") if self.question else None,
            "spans": [record.model_dump(mode="json") for record in self.spans],
            "quarantine": [str(path) for path in self.quarantine.values()],
            "quarantined_rows": {span: _lines_of(path) for span, path in self.quarantine.items()},
            "unsettled": [event.model_dump(mode="json") for event in self.unsettled],
        }

    def lines(self) -> Iterator[str]:
        """What a person reads; the first line says what serves."""
        yield f"{self.name}: {self._serving()}"
        yield from (f"  {line}" for line in (beside_lines(self.desired) if self.desired else ()))
        yield from (f"  {line}" for line in self._laggards())
        yield f"  {self._last_run()}"
        for state in ("waiting", "claimed"):
            names = [record.span.name for record in self.spans if record.state.value == state]
            if names:
                yield f"  {state}: {', '.join(names)}"
        refused = [record for record in self.spans if record.state.value == "refused"]
        yield from (f"  refused: {record.span.name}: {record.reason}" for record in refused[-SHOWN_AT_MOST:])
        for span, path in list(self.quarantine.items())[-SHOWN_AT_MOST:]:
            yield f"  quarantined: {_lines_of(path)} rows of {span}, in {path}"
        for event in self.unsettled[:SHOWN_AT_MOST]:
            yield f"  {event.outcome.value}: {event.name}: {event.message}"

    def _serving(self) -> str:
        if self.desired is None:
            return "serves nothing yet"
        if not self.workers:
            return f"version {self.desired.version} is to serve (since {ago(self.since)}), and no serving worker runs"
        return f"version {self.desired.version} serves, since {ago(self.since)}; serving workers: {len(self.workers)}"

    def _laggards(self) -> Iterator[str]:
        """Workers that do not serve what is desired, and why."""
        if self.desired is None:
            return
        canary = self.desired.canary.version if self.desired.canary else None
        for worker in self.workers:
            missing = {canary, self.desired.shadow} - {None, *worker.loaded}
            if worker.serving != self.desired.version:
                has = f"serves version {worker.serving}" if worker.serving else "serves nothing yet"
            elif missing:
                has = f"has not loaded version {', '.join(map(str, sorted(filter(None, missing))))}"
            elif worker.error:
                has = "did not take the last change"
            else:
                continue
            yield f"worker {worker.pid} {has}: {worker.error or 'it is loading'}"

    def _last_run(self) -> str:
        run = self.last_run
        if run is None:
            return f"no runs yet; drop a span into {self.landing}, or use `ct trigger {self.name}`"
        when = f"began {ago(run.started_at)}" if run.finished_at is None else ago(run.finished_at)
        if self.question is not None:
            return f"run {run.run_id}, which began {ago(run.started_at)}, {waiting_line(self.name, self.question)}"
        version = f" as version {run.version}" if run.version else ""
        return f"last run {run.run_id}: {run.status.value}{version}, {when}{': ' if run.message else ''}{run.message}"


def _lines_of(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
