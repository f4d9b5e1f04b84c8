"""The steps that change what serves, and the plan that puts them in order. A step says in words what it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct.contracts import Change

if TYPE_CHECKING:
    from ct.contracts import Canary, DesiredState


@dataclass(frozen=True)
class Desire:
    """Change what should serve."""

    state: DesiredState

    def __str__(self) -> str:
        parts = [f"let version {self.state.version} serve"]
        if self.state.canary is not None:
            parts.append(f"let {canary_text(self.state.canary, '')}")
        if self.state.shadow is not None:
            parts.append(f"let {shadow_text(self.state.shadow, '')}")
        return f"{', '.join(parts)}, keep {', '.join(map(str, self.state.warm))} loaded"


@dataclass(frozen=True)
class AwaitWorkers:
    """Wait until every live serving worker has dealt with a generation and holds a version."""

    generation: int
    version: int
    part: str = "champion"
    """What the version is to do: `champion`, `canary` or `shadow`."""

    def __str__(self) -> str:
        if self.part == "champion":
            return f"wait until every serving worker answers with version {self.version}"
        return f"wait until every serving worker holds version {self.version} as {self.part}"


@dataclass(frozen=True)
class Remember:
    """Add the change to the history."""

    change: Change

    def __str__(self) -> str:
        return f"write the {self.change.value} to the history"


@dataclass(frozen=True)
class Quarantine:
    """Put a version that answered until now into quarantine."""

    version: int

    def __str__(self) -> str:
        return f"quarantine version {self.version}, so that neither it nor a retrain on the same inputs serves again"


@dataclass(frozen=True)
class TellRegistry:
    """Let the registry say what has changed."""

    champion: int | None = None
    """Where its alias `champion` goes; None: it stays."""
    quarantined: int | None = None
    forced: int | None = None

    def __str__(self) -> str:
        said = {
            "point the alias `champion` at version": self.champion,
            "tag as quarantined version": self.quarantined,
            "tag as forced version": self.forced,
        }
        return f"in MLflow, {' and '.join(f'{what} {version}' for what, version in said.items() if version)}"


Step = Desire | AwaitWorkers | Remember | Quarantine | TellRegistry


@dataclass(frozen=True)
class Plan:
    """What to do, in order, to get from one desired state to another."""

    name: str
    change: Change
    before: DesiredState | None
    after: DesiredState
    steps: tuple[Step, ...]

    @property
    def quarantines(self) -> int | None:
        """The version that the plan puts into quarantine."""
        return next((step.version for step in self.steps if isinstance(step, Quarantine)), None)

    @property
    def forced(self) -> bool:
        """Whether a person overrules the gate or the proof with it."""
        return any(isinstance(step, TellRegistry) and step.forced is not None for step in self.steps)

    @property
    def withdraws(self) -> bool:
        """Whether a version is taken away that answers now and is worse: that stays desired although a worker is late."""
        return self.change is Change.ROLLBACK or self.quarantines is not None

    @property
    def lets_answer(self) -> int:
        """The version that a rollout, a rollback or a canary is about."""
        return self.after.canary.version if self.after.canary else self.after.version


def canary_text(canary: Canary, ending: str = "s") -> str:
    """A canary in words: `version 7 answers 10% by header ct-key`; the ending `ed` tells of the past."""
    kind, _, key = canary.key.partition(":")
    return f"version {canary.version} answer{ending} {percent(canary.share)} by {kind} {key}"


def shadow_text(version: int, ending: str = "s") -> str:
    """A shadow in words: `version 8 predicts unseen`; the ending `ed` tells of the past."""
    return f"version {version} predict{ending} unseen"


def percent(share: float) -> str:
    """A share as people read it: 0.1 is `10%`, 0.0025 is `0.25%`."""
    return f"{share * 100:.6g}%"
