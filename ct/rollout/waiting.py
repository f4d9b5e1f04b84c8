"""The wait of a change: until every live serving worker has taken it, or one refuses, or another change overtakes it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ct.errors import RolloutError

if TYPE_CHECKING:
    from ct.contracts import DesiredState, WorkerState
    from ct.rollout.steps import AwaitWorkers, Plan
    from ct.rollout.store import ModelStore

POLL_S = 0.01
"""Between two looks at the workers' files. A look is a few small reads, and a flip takes about as long as one pause."""


class RefusedError(RolloutError):
    """A serving worker did not take the version. The version that served before is serving on."""


class LaggingError(RolloutError):
    """Serving workers did not answer in time. The message says what is desired now."""


class OvertakenError(RolloutError):
    """Another change came while this one waited for the workers. What that one desires counts."""


def await_workers(plan: Plan, step: AwaitWorkers, store: ModelStore, timeout_s: float) -> tuple[WorkerState, ...]:
    """Wait until every live worker has taken the version; a worker that dies meanwhile is not waited for.

    Raises:
        RefusedError: a worker did not take the version.
        LaggingError: not every worker has answered within `timeout_s`; its fact `lagging` has their pids.
        OvertakenError: something else is desired by now.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        require_own(plan, store)
        workers = store.live_workers()
        refused = next((worker for worker in workers if _has_refused(worker, step)), None)
        if refused is not None:
            raise _refused(step, store, refused, workers)
        lagging = [worker for worker in workers if not _has_taken(worker, step)]
        if not lagging:
            return workers
        if time.monotonic() >= deadline:
            raise _lagging(plan, step, store, timeout_s, lagging, workers)
        time.sleep(POLL_S)


def require_own(plan: Plan, store: ModelStore) -> None:
    """See that what this plan desires is desired still.

    Raises:
        OvertakenError: it is not.
    """
    desired = store.desired()
    if desired != plan.after:
        raise OvertakenError(
            f'The {plan.change.value} of "{plan.name}" (version {plan.after.version}, generation {plan.after.generation}) was '
            f"overtaken: {_asks(desired)}. See `ct history {plan.name}`.",
            name=plan.name,
            version=plan.after.version,
            overtaken_by=desired.generation if desired else None,
        )


def _asks(desired: DesiredState | None) -> str:
    if desired is None:
        return "nothing is desired now"
    return f"generation {desired.generation} lets version {desired.version} serve"


def _has_taken(worker: WorkerState, step: AwaitWorkers) -> bool:
    """Whether a worker dealt with the generation and has the version where it belongs: answering, or loaded beside."""
    if worker.generation < step.generation:
        return False
    return worker.serving == step.version if step.part == "champion" else step.version in worker.loaded


def _has_refused(worker: WorkerState, step: AwaitWorkers) -> bool:
    """Whether a worker dealt with the generation and did not take it. One that answers with the version has other troubles."""
    answers = step.part == "champion" and worker.serving == step.version
    return worker.generation >= step.generation and worker.error is not None and not answers


def _refused(
    step: AwaitWorkers, store: ModelStore, refused: WorkerState, workers: tuple[WorkerState, ...]
) -> RefusedError:
    return RefusedError(
        f'Version {step.version} of "{store.name}" was not taken{_as_part(step)}: {refused.error}. '
        f"{_still_serving(workers)}. See `ct models {store.name}`.",
        name=store.name,
        version=step.version,
        reason=refused.error,
    )


def _lagging(
    plan: Plan,
    step: AwaitWorkers,
    store: ModelStore,
    timeout_s: float,
    lagging: list[WorkerState],
    workers: tuple[WorkerState, ...],
) -> LaggingError:
    pids = ", ".join(str(worker.pid) for worker in lagging)
    if plan.withdraws:
        message = (
            f'Version {step.version} of "{store.name}" is desired and stays so, but not every serving worker answered with it '
            f"within {timeout_s:.0f} s. Workers that lag: {pids}; workers that answer with it: {len(workers) - len(lagging)}. "
            f"See `ct status`; a worker that hangs is started again after `kill -9` of its pid."
        )
    else:
        message = (
            f'Version {step.version} of "{store.name}" was not loaded{_as_part(step)} within {timeout_s:.0f} s. '
            f"{_still_serving(workers)}. Workers that lag: {pids}. See the serving log with `ct status`."
        )
    return LaggingError(message, name=store.name, version=step.version, lagging=[worker.pid for worker in lagging])


def _as_part(step: AwaitWorkers) -> str:
    return "" if step.part == "champion" else f" as {step.part}"


def _still_serving(workers: tuple[WorkerState, ...]) -> str:
    served = sorted({worker.serving for worker in workers if worker.serving is not None})
    return f"Version {', '.join(map(str, served))} is still serving" if served else "Nothing serves yet"
