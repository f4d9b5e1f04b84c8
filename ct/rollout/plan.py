"""Plans: pure functions from what is to the list of steps that changes it. A dry run prints the list, `apply` executes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct.contracts import Change, DesiredState
from ct.errors import RolloutError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.contracts import HistoryEntry


@dataclass(frozen=True)
class Desire:
    """Change what should serve."""

    state: DesiredState

    def __str__(self) -> str:
        return f"let version {self.state.version} serve, keep {', '.join(map(str, self.state.warm))} loaded"


@dataclass(frozen=True)
class AwaitWorkers:
    """Wait until every live serving worker has dealt with a generation."""

    generation: int
    version: int

    def __str__(self) -> str:
        return f"wait until every serving worker answers with version {self.version}"


@dataclass(frozen=True)
class Remember:
    """Add the change to the history."""

    change: Change

    def __str__(self) -> str:
        return f"write the {self.change.value} to the history"


@dataclass(frozen=True)
class PointChampion:
    """Move the registry's alias `champion`."""

    version: int

    def __str__(self) -> str:
        return f"point the alias `champion` at version {self.version}"


Step = Desire | AwaitWorkers | Remember | PointChampion


@dataclass(frozen=True)
class Plan:
    """What to do, in order, to get from one desired state to another."""

    name: str
    change: Change
    before: DesiredState | None
    after: DesiredState
    steps: tuple[Step, ...]


def plan_rollout(
    name: str,
    version: int,
    *,
    desired: DesiredState | None,
    history: Sequence[HistoryEntry],
    versions: Sequence[int],
    keep: int,
) -> Plan:
    """Let a version serve.

    Args:
        name: the model.
        version: the version that shall serve.
        desired: what should serve now.
        history: every change so far, oldest first.
        versions: the versions whose files are there.
        keep: how many versions stay loaded.

    Raises:
        RolloutError: the version's files are not there.
    """
    return _plan(name, Change.ROLLOUT, version, desired, history, versions, keep)


def plan_rollback(
    name: str,
    to: int | None,
    *,
    desired: DesiredState | None,
    history: Sequence[HistoryEntry],
    versions: Sequence[int],
    keep: int,
) -> Plan:
    """Let an earlier version serve: the one before the current one, or `to`.

    'Before' is what served before, not the next smaller number: after rollouts 1, 2, 3 and a rollback to 2, the next
    rollback goes to 1, and version 3 is reached with `to=3`.

    Raises:
        RolloutError: nothing serves, there is no earlier version, or `to` serves already or has no files.
    """
    if desired is None:
        raise RolloutError(f'Cannot roll back "{name}": nothing serves yet. See `ct models {name}`.', name=name)
    if to is None:
        earlier = served_stack(history)[:-1]
        if not earlier:
            raise RolloutError(
                f'Cannot roll back "{name}": no version served before version {desired.version}, which is still serving. '
                f"Choose one with `ct rollback {name} --to V`; `ct models {name}` lists them.",
                name=name,
                serving=desired.version,
            )
        to = earlier[-1]
    if to == desired.version:
        raise RolloutError(f'Version {to} of "{name}" is serving already. Nothing was changed.', name=name, serving=to)
    return _plan(name, Change.ROLLBACK, to, desired, history, versions, keep)


def plan_revert(failed: Plan) -> Plan:
    """Undo a plan whose version the workers did not take: what served before is desired again, as a new generation."""
    if failed.before is None:
        raise ValueError("there is nothing to revert to before the first rollout")
    after = failed.before.model_copy(update={"generation": failed.after.generation + 1})
    return Plan(failed.name, Change.REVERT, failed.after, after, (Desire(after), Remember(Change.REVERT)))


def served_stack(history: Sequence[HistoryEntry]) -> list[int]:
    """The versions that a chain of rollbacks would go through, the current one last."""
    stack: list[int] = []
    for entry in history:
        if entry.change is not Change.ROLLOUT and entry.version in stack:
            del stack[stack.index(entry.version) + 1 :]
        else:
            stack = [version for version in stack if version != entry.version] + [entry.version]
    return stack


def _plan(
    name: str,
    change: Change,
    version: int,
    desired: DesiredState | None,
    history: Sequence[HistoryEntry],
    versions: Sequence[int],
    keep: int,
) -> Plan:
    if version not in versions:
        serving = f"Version {desired.version} is still serving" if desired else "Nothing serves yet"
        raise RolloutError(
            f'Cannot let version {version} of "{name}" serve: its files are missing from the model store. {serving}. '
            f"See `ct models {name}`.",
            name=name,
            version=version,
        )
    recent = [entry.version for entry in reversed(history) if entry.version != version and entry.version in versions]
    state = DesiredState(
        name=name,
        generation=desired.generation + 1 if desired else 1,
        version=version,
        previous=desired.version if desired else None,
        warm=(version, *list(dict.fromkeys(recent))[: keep - 1]),
    )
    steps = (Desire(state), AwaitWorkers(state.generation, version), Remember(change), PointChampion(version))
    return Plan(name, change, desired, state, steps)
