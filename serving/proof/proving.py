"""Prove a version: the service is started, the version loads in it beside the champion, rows are replayed, both are timed."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ct.contracts import Proof
from ct.home import write_atomically
from ct.rollout import ModelStore
from serving.proof import checks, rounds
from serving.proof.client import AnswerError, Client, body_of
from serving.proof.service import HOST, NotTakenError, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ct.contracts import VersionManifest
    from ct.home import Home
    from serving.proof.checks import Found
    from serving.proof.service import Service

PROOF_FILE = "proof.json"
CANDIDATE, CHAMPION, PRIMER = "candidate", "champion", "primer_"
"""What the scratch service calls its models. A primer is a version that is loaded first and not measured: it pays for what
TensorFlow allocates once a process. Its name ends with its version."""


@dataclass(frozen=True)
class Limits:
    """What a version may be, beside the champion."""

    latency_ratio: float
    """So many times the champion's p99."""
    memory_ratio: float
    """So many times the resident memory that loading the champion takes."""
    allow_incompatible: bool
    """Whether it may refuse what the champion's clients send."""


def prove(
    home: Home, name: str, version: int, limits: Limits, log: Path, more_rows: Callable[[], Mapping[str, list[Any]]]
) -> Proof:
    """Prove a version of the model store, and write `proof.json` into its folder.

    Args:
        home: the home whose store holds the version and whose desired state names the champion.
        name: the model.
        version: the version to prove.
        limits: what the version may be.
        log: where the service's output goes.
        more_rows: further rows with offline predictions; called once the service has loaded everything.

    Raises:
        UnknownVersionError: the version or the champion is not in the store.
        ServiceNotStartedError: the service did not start, which says nothing about the version.
    """
    began = time.monotonic()
    store = ModelStore(home, name)
    manifest = store.manifest(version)
    champion = _champion(store, version)
    found = [checks.files(manifest, store.version_path(version))]
    measured: dict[str, float] = {}
    if not found[0].blocks:  # files that nobody registered are not run
        with running(home, log) as service:
            measured["start_s"] = time.monotonic() - began
            found += _serve(service, store, manifest, champion, limits, more_rows, measured)
    failed = [each.said for each in found if each.blocks]
    proof = Proof(
        name=name,
        version=version,
        champion_version=champion.version if champion else None,
        reason="; ".join(failed or [each.said for each in found]),
        checks=tuple(each.check for each in found),
        measured=measured,
        at=datetime.now(timezone.utc),
        seconds=time.monotonic() - began,
    )
    write_atomically(store.version_path(version) / PROOF_FILE, proof.model_dump_json(indent=2))
    return proof


def _champion(store: ModelStore, version: int) -> VersionManifest | None:
    """What serves now; what served before, when it is the version itself."""
    desired = store.desired()
    if desired is None:
        return None
    champion = desired.version if desired.version != version else desired.previous
    return store.manifest(champion) if champion is not None else None


def _serve(
    service: Service,
    store: ModelStore,
    manifest: VersionManifest,
    champion: VersionManifest | None,
    limits: Limits,
    more_rows: Callable[[], Mapping[str, list[Any]]],
    measured: dict[str, float],
) -> Iterator[Found]:
    """What the running service shows; numbers go into `measured`."""
    if champion is not None:
        try:
            _load(service, store, f"{PRIMER}{champion.version}", champion)
            measured["champion_memory_mb"] = _load(service, store, CHAMPION, champion)
        except NotTakenError as error:
            yield checks.not_compared(champion.version, str(error))
            champion = None
    try:
        if champion is None:
            _load(service, store, f"{PRIMER}{manifest.version}", manifest)
        measured["memory_mb"] = _load(service, store, CANDIDATE, manifest)
    except NotTakenError as error:
        yield checks.not_taken(str(error))
        return
    with ExitStack() as clients:
        client = clients.enter_context(Client(HOST, service.port, CANDIDATE))
        examples, more = _examples(store, manifest), more_rows()
        rows = {key: [*examples[key], *more[key]] for key in ("instances", "predictions")}
        yield checks.agreement(client, rows, manifest.prediction_tolerance)
        beside = None
        if champion is not None:
            sent = _examples(store, champion)["instances"]
            allow = limits.allow_incompatible
            yield checks.contract(client, manifest, champion, sent, allow_incompatible=allow)
            beside = clients.enter_context(Client(HOST, service.port, CHAMPION))
        yield from _time(client, beside, store, manifest, champion, limits, measured)
    if champion is not None:
        memory_mb = measured["memory_mb"], measured["champion_memory_mb"]
        yield checks.memory(*memory_mb, limits.memory_ratio, champion.version)


def _time(
    client: Client,
    beside: Client | None,
    store: ModelStore,
    manifest: VersionManifest,
    champion: VersionManifest | None,
    limits: Limits,
    measured: dict[str, float],
) -> Iterator[Found]:
    asked = rounds.Asked(client, _bodies(store, manifest))
    other = rounds.Asked(beside, _bodies(store, champion)) if beside and champion else None
    try:
        latency = rounds.measure(asked, other, limits.latency_ratio)
    except AnswerError as error:
        if error.model == CANDIDATE or champion is None:
            yield checks.not_taken(str(error))
        else:
            yield checks.not_compared(champion.version, str(error))
        return
    measured["p99_ms"] = latency.candidate_ms
    if champion is not None:
        measured["champion_p99_ms"] = latency.champion_ms
        yield checks.latency(latency, limits.latency_ratio, champion.version)


def _load(service: Service, store: ModelStore, part: str, manifest: VersionManifest) -> float:
    return service.load(part, store.version_path(manifest.version), manifest.version)


def _examples(store: ModelStore, manifest: VersionManifest) -> dict[str, list[Any]]:
    path = store.version_path(manifest.version) / "examples.json"
    examples: dict[str, list[Any]] = json.loads(path.read_text(encoding="utf-8"))
    return examples


def _bodies(store: ModelStore, manifest: VersionManifest) -> list[bytes]:
    return [body_of([instance]) for instance in _examples(store, manifest)["instances"]]
