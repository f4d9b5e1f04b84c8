"""Which versions have room in a worker's memory: what answers, and as many warm versions as fit beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MIB = 1024**2
GRAPH_MB = 7.0
"""What a worker grew by, a version of flights (files of 0.2 MiB) after another."""


@dataclass(frozen=True)
class Needs:
    """The versions that one model would have in memory, each with its size in MiB."""

    name: str
    always: Mapping[int, float]
    """What answers, what goes beside it, and what is to do so next: these stay whatever the budget."""
    warm: Mapping[int, float]
    """Others, the newest first."""


def choose_warm(models: Iterable[Needs], budget_mb: float) -> frozenset[tuple[str, int]]:
    """Which warm versions stay loaded, by model and version; decided from sizes, so that nothing is loaded to be let go.

    Each model's newest warm version comes first, then each one's second, and so on: the oldest are the first to go. Where one
    does not fit, that model's older ones go with it, while other models' may still fit.

    Args:
        models: what each would have.
        budget_mb: for all of it together, in MiB.
    """
    models = list(models)
    room_mb = budget_mb - sum(sum(model.always.values()) for model in models)
    by_age = sorted((age, model.name, version) for model in models for age, version in enumerate(model.warm))
    sizes_mb = {(model.name, version): size for model in models for version, size in model.warm.items()}
    chosen: set[tuple[str, int]] = set()
    full: set[str] = set()
    for _, name, version in by_age:
        if name in full or sizes_mb[name, version] > room_mb:
            full.add(name)
            continue
        room_mb -= sizes_mb[name, version]
        chosen.add((name, version))
    return frozenset(chosen)


def size_mb(folder: Path) -> float:
    """About what a SavedModel takes in memory: its variables as they are on disk, and TensorFlow's own for each graph."""
    return GRAPH_MB + sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MIB
