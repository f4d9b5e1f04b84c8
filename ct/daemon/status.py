"""How the processes of a home are."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  pydantic needs the class at run time
from typing import TYPE_CHECKING

from pydantic import Field

from ct.contracts import Value
from ct.daemon import heals, health, supervisord
from ct.daemon.launch import STARTS_FOLDER
from ct.daemon.programs import Program, RunningCheck, programs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.home import Home
    from ct.settings import Settings


class ProcessStatus(Value):
    """One supervised process."""

    name: str
    state: str = Field(
        description="supervisord's word: RUNNING, STARTING, BACKOFF, FATAL, ...; DOWN without supervisord."
    )
    pid: int | None
    healthy: bool
    problem: str | None = Field(description="Why it is not healthy.")
    since: datetime | None = Field(description="When this pid started, UTC.")
    restarts: int = Field(ge=0, description="Since `ct up`.")
    address: str | None
    log: str


class Status(Value):
    """All processes of a home."""

    home: str
    daemon_alive: bool
    daemon_pid: int | None
    processes: tuple[ProcessStatus, ...]
    last_heal: heals.Heal | None = Field(description="The last time supervisord had died, and what became of it.")

    @property
    def healthy(self) -> bool:
        return self.daemon_alive and all(process.healthy for process in self.processes)


def status(home: Home, settings: Settings) -> Status:
    """Ask supervisord and every process; takes as long as the slowest answers, 3 s at most.

    Raises:
        HomeError: `ct up` never ran here.
    """
    home.check_layout()
    # Without Airflow's environment: its keys are not needed to ask after a process.
    return status_of(home, programs(home, settings, {}))


def status_of(home: Home, wanted: Sequence[Program]) -> Status:
    """The same for given programs."""
    try:
        pid = supervisord.daemon_pid(home)
        found = {info.name: info for info in supervisord.processes(home)}
    except supervisord.NotRunningError:
        pid, found = None, {}
    running = [program for program in wanted if program.name in found and found[program.name].pid]
    problems = health.problems(running)
    history = heals.recorded(home)
    return Status(
        home=str(home.root),
        daemon_alive=pid is not None,
        daemon_pid=pid,
        processes=tuple(_process(home, program, found.get(program.name), problems) for program in wanted),
        last_heal=history[-1] if history else None,
    )


def starts(home: Home, name: str) -> int:
    """How often a program was started since `ct up`."""
    try:
        return len((home.run / STARTS_FOLDER / name).read_text(encoding="ascii").splitlines())
    except FileNotFoundError:
        return 0


def _process(
    home: Home, program: Program, info: supervisord.ProcessInfo | None, problems: dict[str, str | None]
) -> ProcessStatus:
    state = info.state if info else "DOWN"
    problem = problems.get(program.name) if info and info.pid else f"it does not run: {state}"
    if problem is None and isinstance(program.check, RunningCheck) and state not in {"RUNNING", "STARTING"}:
        problem = f"it is {state}"
    return ProcessStatus(
        name=program.name,
        state=state,
        pid=info.pid if info else None,
        healthy=problem is None,
        problem=problem,
        since=info.since if info else None,
        restarts=max(0, starts(home, program.name) - 1),
        address=program.address,
        log=str(program.log),
    )
