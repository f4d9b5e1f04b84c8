"""Whether a plan's version may answer requests at all: the gate's verdict against what serves, its proof, and its features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct.contracts import Change
from ct.errors import RolloutError

if TYPE_CHECKING:
    from ct.contracts import DesiredState, Verdict, VersionManifest
    from ct.rollout.steps import Plan
    from ct.rollout.store import ModelStore

CONTRACT = "features_that_differ"
"""The proof's check that a version takes what clients send; `allow_incompatible` overrules it."""


def admit(plan: Plan, store: ModelStore, *, force: bool = False, allow_incompatible: bool = False) -> bool:
    """See that what a plan lets answer may do so. A shadow answers nobody, so any version may be one.

    A rollback may go to whatever has served before, and nothing is asked of it: it must work when nothing else does. What
    never served must have been judged against what serves now: a verdict against another version says nothing of this one.

    Args:
        plan: from ct.rollout.plan.
        store: the model's.
        force: let a version serve that the gate did not approve, or not against what serves now, or whose proof failed.
        allow_incompatible: let a version serve that takes features which the champion does not.

    Returns:
        Whether the gate's verdict or a failed proof is overruled; the history keeps that for ever.

    Raises:
        RolloutError: it may not; the message says why and what would let it.
        UnknownVersionError: a manifest cannot be read.
    """
    if plan.change in (Change.SHADOW, Change.END, Change.REVERT):
        return False
    version = plan.lets_answer
    has_served = any(entry.version == version for entry in store.history())
    if plan.change is Change.ROLLBACK:
        if has_served:
            return False
        raise _never_served(version, plan)
    allow_incompatible = allow_incompatible and plan.change is Change.ROLLOUT
    manifest = store.manifest(version)
    overrules = _overrules(manifest, plan, force=force)
    overrules |= not has_served and _overrules_baseline(manifest, plan, force=force)
    overrules |= _overrules_proof(version, store, plan, force=force, allow_incompatible=allow_incompatible)
    if plan.change is Change.ROLLOUT and plan.before is not None and not allow_incompatible:
        _require_compatible(store.manifest(plan.before.version), manifest)
    return overrules


def holds_against(verdict: Verdict, desired: DesiredState) -> bool:
    """Whether a verdict was given against what serves now: one against another version says nothing of this one."""
    return verdict.champion_version == desired.version


def incompatible_features(champion: VersionManifest, version: VersionManifest) -> list[str]:
    """What requests made for the champion lack or get wrong for a version; empty when it takes the same features.

    A feature less is incompatible too: serving answers a request that carries an unknown feature with 400.
    """
    known = {feature.name: feature.dtype for feature in champion.features}
    found = []
    for feature in version.features:
        if feature.name not in known:
            found.append(f"{feature.name} ({feature.dtype}) is new and required")
        elif known[feature.name] != feature.dtype:
            found.append(f"{feature.name} is {feature.dtype}, not {known[feature.name]}")
    taken = {feature.name for feature in version.features}
    gone = [(name, dtype) for name, dtype in known.items() if name not in taken]
    return found + [f"{name} ({dtype}) is gone, and requests that carry it are refused" for name, dtype in gone]


def _require_compatible(champion: VersionManifest, version: VersionManifest) -> None:
    found = incompatible_features(champion, version)
    if found:
        raise RolloutError(
            f'Version {version.version} of "{version.name}" does not take what clients of version {champion.version} send: '
            f"{'; '.join(found)}. Nothing was changed; version {champion.version} is still serving. Once clients send it, let "
            f"the version serve with `ct rollout {version.name} --version {version.version} --allow-incompatible`, or set "
            f"`serving: {{allow_incompatible: true}}` in pipeline.yaml.",
            name=version.name,
            version=version.version,
            serving=champion.version,
            incompatible=found,
        )


def _overrules(manifest: VersionManifest, plan: Plan, *, force: bool) -> bool:
    if manifest.may_serve:
        return False
    if force:
        return True
    if manifest.withheld is not None:
        why = f"is withheld: {manifest.withheld}"
    elif manifest.approval is not None:
        why = f"was not approved by {manifest.approval.by}: {manifest.approval.reason}"
    else:
        why = f"was not approved by the gate ({manifest.verdict.outcome.value}): {manifest.verdict.reason}"
    raise _refusal(manifest.version, plan, why, verdict=manifest.verdict.outcome.value)


def _overrules_baseline(manifest: VersionManifest, plan: Plan, *, force: bool) -> bool:
    """Other than at its gate, another version serves: after a rollback, or a rollout by hand, while this one was under way."""
    if plan.before is None or holds_against(manifest.verdict, plan.before):
        return False
    if force:
        return True
    judged_against = manifest.verdict.champion_version
    against = "when nothing served" if judged_against is None else f"against version {judged_against}"
    why = f"was judged {against}, and not against version {plan.before.version}, which serves now"
    retry = f"`ct trigger {plan.name} --force` trains and judges a candidate against it"
    raise _refusal(manifest.version, plan, why, retry)


def _never_served(version: int, plan: Plan) -> RolloutError:
    serving = f" Version {plan.before.version} is still serving." if plan.before else ""
    return RolloutError(
        f'Version {version} of "{plan.name}" has never served, so there is no way back to it. Nothing was changed.{serving} '
        f"`ct history {plan.name}` says what served; `ct rollout {plan.name} --version {version}` lets a version serve first.",
        name=plan.name,
        version=version,
    )


def _overrules_proof(version: int, store: ModelStore, plan: Plan, *, force: bool, allow_incompatible: bool) -> bool:
    """One that nobody has proven passes: a run proves it before its rollout, and so does `ct rollout`."""
    proof = store.proof(version)
    if proof is not None and allow_incompatible:
        proof = proof.model_copy(update={"checks": tuple(c for c in proof.checks if c.metric != CONTRACT)})
    if proof is None or proof.passed:
        return False
    if force:
        return True
    raise _refusal(version, plan, f"failed its proof: {proof.reason}")


def _refusal(version: int, plan: Plan, why: str, retry: str | None = None, **facts: str) -> RolloutError:
    name = plan.name
    serving = f"Version {plan.before.version} is still serving" if plan.before else "Nothing serves yet"
    return RolloutError(
        f'Version {version} of "{name}" {why}. Nothing was changed. {serving}. '
        f"{retry or f'`ct why {name} {version}` shows every check'}; "
        f'`ct rollout {name} --version {version} --force --reason "..."` lets it serve all the same, and is marked for ever.',
        name=name,
        version=version,
        **facts,
    )
