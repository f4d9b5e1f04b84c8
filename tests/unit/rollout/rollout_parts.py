"""What the tests of rollouts share: a store with versions, a registry, and serving workers that are threads of the test."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ct.contracts import Feature, Outcome, Span, WorkerState
from ct.errors import NotRegisteredError, RegistryError
from ct.home import Home
from ct.rollout import Plan, announce_worker, apply, overruling, plan_rollback, plan_rollout
from ct.rollout.process import started_at
from tests.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ct.contracts import DesiredState
    from ct.rollout import Applied, ModelStore
    from ct.rollout import Registry as AnyRegistry

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
FEATURES = (Feature(name="carrier", dtype="string"), Feature(name="distance", dtype="float32"))


class Registry:
    """An alias and tags that can be out of reach."""

    def __init__(self, *, down: bool = False, deleted: tuple[int, ...] = ()) -> None:
        self.champion: int | None = None
        self.tags: dict[int, dict[str, str]] = {}
        self._down = down
        self._deleted = deleted

    def point_champion(self, name: str, version: int) -> None:
        if self._down:
            raise RegistryError(f"no registry for {name}")
        if version in self._deleted:
            raise NotRegisteredError(f"no version {version} of {name}")
        self.champion = version

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        if self._down:
            raise RegistryError(f"no registry for {name}")
        if version in self._deleted:
            raise NotRegisteredError(f"no version {version} of {name}")
        self.tags.setdefault(version, {}).update(tags)


def span(name: str) -> Span:
    """A span whose bytes are its name."""
    return Span(
        pipeline="flights", name=name, revision=1, sha256=name, uri=f"/{name}", format="csv", size_bytes=1, seen_at=NOW
    )


def stage(
    store: ModelStore,
    folder: Path,
    version: int,
    features: tuple[Feature, ...] = FEATURES,
    outcome: Outcome = Outcome.APPROVED,
    judged_against: int | None = 2,
) -> None:
    """Put a version's files into the store; its number is its seed, so each has a fingerprint of its own."""
    saved_model = folder / f"model{version}"
    saved_model.mkdir(exist_ok=True)
    (saved_model / "saved_model.pb").write_text(str(version))
    manifest = manifest_of(
        *("flights", version, saved_model),
        features=features,
        created_at=NOW,
        outcome=outcome,
        seed=version,
        judged_against=judged_against,
    )
    store.stage(
        saved_model, manifest.model_copy(update={"spans": (span("jan"),)}), {"instances": [], "predictions": []}
    )


def carry_out(
    plan: Plan,
    store: ModelStore,
    registry: AnyRegistry | None = None,
    *,
    reason: str = "better",
    timeout_s: float = 10,
    forced: bool = False,
) -> Applied:
    """Apply a plan."""
    return apply(
        overruling(plan) if forced else plan,
        store,
        registry or Registry(),
        actor="on-call",
        reason=reason,
        clock=lambda: NOW,
        timeout_s=timeout_s,
    )


def roll_out(store: ModelStore, version: int, registry: AnyRegistry | None = None, timeout_s: float = 10) -> Applied:
    """Plan and apply a rollout."""
    plan = plan_rollout("flights", version, reached=store.reached(), **store.facts(3))
    return carry_out(plan, store, registry, timeout_s=timeout_s)


def roll_back(
    store: ModelStore, to: int | None = None, registry: AnyRegistry | None = None, *, quarantine: bool = False
) -> Applied:
    """Plan and apply a rollback; a drill where nothing else is said."""
    plan = plan_rollback("flights", to, quarantine=quarantine, **store.facts(3))
    return carry_out(plan, store, registry, reason="worse")


def worker(generation: int, serving: int | None, error: str | None = None, loaded: tuple[int, ...] = ()) -> WorkerState:
    """What this process would report as a serving worker."""
    began = started_at(os.getpid())
    assert began is not None
    return WorkerState(
        pid=os.getpid(), started_at=began, generation=generation, serving=serving, loaded=loaded, error=error
    )


@contextmanager
def answering(store: ModelStore, answer: Callable[[DesiredState], WorkerState]) -> Iterator[None]:
    """A serving worker that answers each desired state as told."""
    stopped = threading.Event()
    announce_worker(Home(store.root.parent.parent), worker(0, None))

    def follow() -> None:
        reached = 0
        while not stopped.wait(0.005):
            desired = store.desired()
            if desired is not None and desired.generation != reached:
                reached = desired.generation
                store.report_worker(answer(desired))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
