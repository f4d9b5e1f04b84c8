"""Proves a version before `ct rollout` lets it answer requests, where no run of its pipeline has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ct.gate_config import GuardsConfig
    from ct.home import Home
    from ct.rollout import ModelStore, Plan


def prove_what_is_new(home: Home, store: ModelStore, plan: Plan, *, allow_incompatible: bool) -> bool:
    """Start the very service on the files of a version that was neither proven nor ever served; some ten seconds.

    What comes of it is `proof.json` in the version's folder; whether it may serve then is for ct.rollout.admit to say.

    Args:
        home: where it is.
        store: the model's.
        plan: what is to be carried out.
        allow_incompatible: the version may refuse what clients send now.

    Returns:
        Whether there was something to prove.

    Raises:
        ProofFailedError: the proof could not be made; nothing was changed.
        PlaneMissingError: the serving plane is not installed.
    """
    from ct.errors import ProofFailedError, ServiceNotStartedError, UnknownVersionError  # noqa: PLC0415
    from ct.proving import prove  # noqa: PLC0415

    if not is_unproven(store, plan):
        return False
    version = plan.lets_answer
    click.echo(
        f"version {version} has not been proven; starting the service on its files, beside what serves", err=True
    )
    try:
        prove(home, store.name, version, _guards(home, store.name), allow_incompatible=allow_incompatible)
    except (ProofFailedError, ServiceNotStartedError, UnknownVersionError) as error:
        raise ProofFailedError(
            f'Version {version} of "{store.name}" could not be proven: {error.message} Nothing was changed, and '
            f"what serves serves on. {home.logs / 'proof.log'} is what the service wrote; `--force` with a --reason lets the "
            "version serve unproven.",
            name=store.name,
            version=version,
        ) from error
    return True


def is_unproven(store: ModelStore, plan: Plan) -> bool:
    """Whether a plan lets a version answer that was neither proven nor ever answered everybody."""
    from ct.contracts import Change  # noqa: PLC0415

    if plan.change not in (Change.ROLLOUT, Change.CANARY):
        return False
    version = plan.lets_answer
    return store.proof(version) is None and all(entry.version != version for entry in store.history())


def _guards(home: Home, name: str) -> GuardsConfig:
    """The limits that the pipeline was deployed with; the defaults for a model without a pipeline."""
    from ct.deploy import deployed_pipelines, deployed_spec  # noqa: PLC0415
    from ct.gate_config import GuardsConfig  # noqa: PLC0415

    if name not in deployed_pipelines(home):
        return GuardsConfig()
    return GuardsConfig.model_validate(deployed_spec(home, name).config["gate"].get("guards", {}))
