"""Plans: pure functions from what is to the list of steps that changes it. A dry run prints the list, `apply` executes it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from ct.contracts import Change, DesiredState
from ct.errors import RolloutError
from ct.rollout.history import BESIDE, served_stack
from ct.rollout.steps import AwaitWorkers, Desire, Plan, Quarantine, Remember, TellRegistry, canary_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from ct.contracts import Canary, HistoryEntry
    from ct.rollout.journal import Journal
    from ct.rollout.steps import Step


class Facts(TypedDict):
    """What every plan is made from; `ModelStore.facts` reads it."""

    desired: DesiredState | None
    """What should serve now; None before the first rollout."""
    history: Sequence[HistoryEntry]
    """Every change so far, oldest first."""
    versions: Sequence[int]
    """The versions whose files are there."""
    keep: int
    """How many versions stay loaded, the serving one included; canary and shadow come on top."""
    quarantined: Mapping[int, int]
    """Each version that must not serve -> the one in quarantine that is why: itself, or one made from the same inputs."""


def plan_rollout(name: str, version: int, *, reached: int = 0, **facts: Unpack[Facts]) -> Plan:
    """Let a version answer every request. A canary and a shadow that are going end.

    Args:
        name: the model.
        version: the version that shall serve.
        reached: the newest generation that a live worker has dealt with. It matters after a first version was refused: then
            nothing is desired, and a worker would take a second generation 1 for the one it has refused.
        facts: what is now.

    Raises:
        RolloutError: the version serves already, is in quarantine, or its files are not there.
    """
    desired = facts["desired"]
    if desired is not None and desired.version == version:
        raise _serving_already(desired)
    return _plan_champion(name, Change.ROLLOUT, version, facts, reached=reached)


def plan_rollback(name: str, to: int | None, *, quarantine: bool = True, **facts: Unpack[Facts]) -> Plan:
    """Let an earlier version answer every request: the one before the current one, or `to`. Canary and shadow end.

    'Before' is what served before, not the next smaller number, and versions in quarantine are passed over: after rollouts 1,
    2, 3 and a rollback to 2, the next rollback goes to 1.

    Args:
        name: the model.
        to: the version to go to; by default what served before.
        quarantine: whether the version that serves now must not come back; False for a drill.
        facts: what is now.

    Raises:
        RolloutError: nothing serves, there is no earlier version, or `to` serves already, is in quarantine or has no files.
    """
    desired = facts["desired"]
    if desired is None:
        raise RolloutError(f'Cannot roll back "{name}": nothing serves yet. See `ct models {name}`.', name=name)
    if to is None:
        earlier = [version for version in served_stack(facts["history"])[:-1] if version not in facts["quarantined"]]
        if not earlier:
            raise RolloutError(
                f'Cannot roll back "{name}": no version served before version {desired.version}, which is still serving. '
                f"Choose one with `ct rollback {name} --to V`; `ct models {name}` lists them.",
                name=name,
                serving=desired.version,
            )
        to = earlier[-1]
    if to == desired.version:
        raise _serving_already(desired)
    return _plan_champion(name, Change.ROLLBACK, to, facts, quarantine=desired.version if quarantine else None)


def plan_canary(name: str, canary: Canary, **facts: Unpack[Facts]) -> Plan:
    """Let a version answer a share of the requests, or change that share. The champion and a shadow stay as they are.

    Raises:
        RolloutError: nothing serves, the version is the champion, in quarantine or without files, or exactly this canary is
            going already.
    """
    champion = _champion(name, Change.CANARY, canary.version, facts)
    if canary.version in facts["quarantined"]:
        raise _in_quarantine(name, canary.version, champion, facts)
    if champion.canary == canary:
        raise RolloutError(
            f'The canary of "{name}" is as asked already: {canary_text(canary)}. Nothing was changed.',
            name=name,
            version=canary.version,
        )
    return _plan_beside(Change.CANARY, champion, canary, champion.shadow, facts=facts)


def plan_shadow(name: str, version: int, **facts: Unpack[Facts]) -> Plan:
    """Let a version predict the same rows unseen, one in quarantine too. The champion and a canary stay as they are.

    Raises:
        RolloutError: nothing serves, the version is the champion or has no files, or it is the shadow already.
    """
    champion = _champion(name, Change.SHADOW, version, facts)
    if champion.shadow == version:
        raise RolloutError(
            f'Version {version} is the shadow of "{name}" already. Nothing was changed.', name=name, version=version
        )
    return _plan_beside(Change.SHADOW, champion, champion.canary, version, facts=facts)


def plan_end(name: str, **facts: Unpack[Facts]) -> Plan:
    """End the canary and the shadow; the champion answers every request.

    Raises:
        RolloutError: neither is going.
    """
    desired = facts["desired"]
    if desired is None or (desired.canary is None and desired.shadow is None):
        serving = f"Version {desired.version} serves alone" if desired else "Nothing serves yet"
        raise RolloutError(
            f'There is no canary or shadow of "{name}" to end. {serving}. Nothing was changed. See `ct models {name}`.',
            name=name,
        )
    return _plan_beside(Change.END, desired, None, None, facts=facts)


def plan_end_canary(name: str, **facts: Unpack[Facts]) -> Plan:
    """End a canary that is worse than the champion, and quarantine it. The champion and a shadow stay as they are.

    Raises:
        RolloutError: no canary is going.
    """
    desired = facts["desired"]
    if desired is None or desired.canary is None:
        raise RolloutError(
            f'There is no canary of "{name}" to end. Nothing was changed. See `ct models {name}`.', name=name
        )
    return _plan_beside(Change.END, desired, None, desired.shadow, facts=facts, quarantine=desired.canary.version)


def kept(desired: DesiredState) -> int:
    """How many versions stay loaded now, without canary and shadow: the `keep` that changes nothing about it."""
    beside = {desired.canary.version if desired.canary else None, desired.shadow}
    return sum(version not in beside for version in desired.warm)


def plan_revert(failed: Plan) -> Plan:
    """Undo a plan whose version the workers did not take: all that was desired before is again, as a new generation."""
    if failed.before is None:
        raise ValueError("there is nothing to revert to before the first rollout")
    after = failed.before.model_copy(update={"generation": failed.after.generation + 1})
    return Plan(failed.name, Change.REVERT, failed.after, after, (Desire(after), Remember(Change.REVERT)))


def plan_of(journal: Journal) -> Plan:
    """The plan that a journal is of."""
    after, entry = journal.after, journal.entry
    forced = entry.lets_answer if entry.forced else None
    return Plan(after.name, entry.change, journal.before, after, _steps(entry.change, after, entry.quarantined, forced))


def overruling(plan: Plan) -> Plan:
    """The same plan, with which a person overrules the gate or the proof."""
    return replace(plan, steps=_steps(plan.change, plan.after, plan.quarantines, plan.lets_answer))


def _steps(
    change: Change, after: DesiredState, quarantined: int | None = None, forced: int | None = None
) -> tuple[Step, ...]:
    """Everything that a change consists of, in order. The alias is right already when only canary or shadow change."""
    awaited, part = after.version, "champion"
    if change is Change.CANARY and after.canary is not None:
        awaited, part = after.canary.version, "canary"
    if change is Change.SHADOW and after.shadow is not None:
        awaited, part = after.shadow, "shadow"
    steps: list[Step] = [Desire(after), AwaitWorkers(after.generation, awaited, part), Remember(change)]
    if quarantined is not None:
        steps.append(Quarantine(quarantined))
    tell = TellRegistry(None if change in BESIDE else after.version, quarantined, forced)
    if tell != TellRegistry():
        steps.append(tell)
    return tuple(steps)


def _plan_champion(
    name: str, change: Change, version: int, facts: Facts, *, reached: int = 0, quarantine: int | None = None
) -> Plan:
    desired = facts["desired"]
    if version in facts["quarantined"]:
        raise _in_quarantine(name, version, desired, facts)
    if version not in facts["versions"]:
        raise _files_missing(name, f'let version {version} of "{name}" serve', version, desired)
    newest = max(desired.generation if desired else reached, *(entry.generation for entry in facts["history"][-1:]), 0)
    state = DesiredState(
        name=name,
        generation=newest + 1,
        version=version,
        previous=desired.version if desired else None,
        warm=_warm((version,), facts, leave_out=quarantine),
    )
    return Plan(name, change, desired, state, _steps(change, state, quarantine))


def _plan_beside(
    change: Change,
    champion: DesiredState,
    canary: Canary | None,
    shadow: int | None,
    *,
    facts: Facts,
    quarantine: int | None = None,
) -> Plan:
    """Change what goes beside the champion."""
    beside = (canary.version if canary else None, shadow)
    needed = (champion.version, *(version for version in beside if version is not None))
    state = champion.model_copy(
        update={
            "generation": champion.generation + 1,
            "canary": canary,
            "shadow": shadow,
            "warm": _warm(needed, facts, leave_out=quarantine),
        }
    )
    return Plan(state.name, change, champion, state, _steps(change, state, quarantine))


def _warm(needed: tuple[int, ...], facts: Facts, *, leave_out: int | None = None) -> tuple[int, ...]:
    """The versions that requests need now, the champion first, and then the newest champions before it that may come back."""
    first = tuple(dict.fromkeys(needed))
    served = [entry.version for entry in reversed(facts["history"])]
    not_these = {*first, *facts["quarantined"], leave_out}
    earlier = [
        version for version in dict.fromkeys(served) if version in facts["versions"] and version not in not_these
    ]
    return (*first, *earlier[: facts["keep"] - 1])


def _champion(name: str, part: Change, version: int, facts: Facts) -> DesiredState:
    """What serves now, once it is sure that `version` may go beside it."""
    desired = facts["desired"]
    if desired is None:
        raise RolloutError(
            f'Cannot begin a {part.value} of "{name}": nothing serves yet. '
            f"Let a version serve first with `ct rollout {name} --version V`; `ct models {name}` lists them.",
            name=name,
            version=version,
        )
    if version == desired.version:
        raise RolloutError(
            f'Version {version} of "{name}" is serving already, so it cannot be its own {part.value}. Nothing was changed. '
            f"Choose another; `ct models {name}` lists them.",
            name=name,
            serving=version,
        )
    if version not in facts["versions"]:
        raise _files_missing(name, f'begin a {part.value} of "{name}" with version {version}', version, desired)
    return desired


def _serving_already(desired: DesiredState) -> RolloutError:
    beside = [part for part, going in (("canary", desired.canary), ("shadow", desired.shadow)) if going is not None]
    hint = f" `ct rollout {desired.name} --end` ends its {' and '.join(beside)}." if beside else ""
    return RolloutError(
        f'Version {desired.version} of "{desired.name}" is serving already. Nothing was changed.{hint}',
        name=desired.name,
        serving=desired.version,
    )


def _in_quarantine(name: str, version: int, desired: DesiredState | None, facts: Facts) -> RolloutError:
    serving = f"Version {desired.version} is still serving" if desired else "Nothing serves yet"
    held = facts["quarantined"][version]
    why = (
        "is in quarantine"
        if held == version
        else f"was made from the very inputs of version {held}, which is in quarantine,"
    )
    return RolloutError(
        f'Version {version} of "{name}" {why} and must not serve. Nothing was changed. {serving}. '
        f'`ct quarantine {name}` says why; `ct quarantine {name} --lift {held} --reason "..."` lifts it.',
        name=name,
        version=version,
        serving=desired.version if desired else None,
    )


def _files_missing(name: str, doing: str, version: int, desired: DesiredState | None) -> RolloutError:
    serving = f"Version {desired.version} is still serving" if desired else "Nothing serves yet"
    return RolloutError(
        f"Cannot {doing}: its files are missing from the model store. {serving}. See `ct models {name}`.",
        name=name,
        version=version,
    )
