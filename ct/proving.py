"""Has the serving plane start its very service on a version's files (serving.proof), and reads what came of it."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

from ct.contracts import Proof
from ct.errors import CTError, ProofFailedError, ServiceNotStartedError, UnknownVersionError
from ct.planes import Plane, python

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ct.gate_config import GuardsConfig
    from ct.home import Home


def prove(
    home: Home,
    name: str,
    version: int,
    guards: GuardsConfig,
    *,
    allow_incompatible: bool,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    rows: Callable[[], Mapping[str, Any]] | None = None,
) -> Proof:
    """Prove a version beside what serves, some ten seconds. The proof is in the version's folder too, passed or not.

    Args:
        home: whose model store.
        name: the model.
        version: its files are complete.
        guards: limits of latency and memory, against the champion's.
        allow_incompatible: whether it may refuse what clients send now.
        environment: of the process, with CT_HOME laid over it; by default this process's.
        log: of the service; by default logs/proof.log of the home.
        rows: gives further rows to replay with their offline predictions, as examples.json has them; called while the service
            starts.

    Raises:
        ServiceNotStartedError: the service did not start, which says nothing about the version.
        UnknownVersionError: its files cannot be read.
        ProofFailedError: the proof ran into something else.
        PlaneMissingError: the serving plane is not installed.
    """
    command = [
        *(str(python(Plane.SERVING)), "-m", "serving.proof", name, str(version), "--parent", str(os.getpid())),
        *("--latency-ratio", str(guards.latency_ratio), "--memory-ratio", str(guards.memory_ratio)),
        *(["--log", str(log)] if log else []),
        *(["--rows"] if rows else []),
        *(["--allow-incompatible"] if allow_incompatible else []),
    ]
    # A session of its own: a signal to this process's group must leave the proof the moment in which it ends its service.
    process = subprocess.Popen(
        command,
        cwd=home.run,
        env={**(os.environ if environment is None else environment), "CT_HOME": str(home.root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        try:
            output, _ = process.communicate(json.dumps(rows()).encode() if rows else b"")
        except BaseException:
            process.terminate()
            raise
    return _read(output, process.returncode)


def _read(output: bytes, code: int) -> Proof:
    lines = output.decode().splitlines()
    if not lines:
        raise ServiceNotStartedError(
            f"The proof ended with code {code} and without a word; the lines above are all that is known. What serves is not "
            "affected.",
            code=code,
        )
    told = json.loads(lines[-1])
    if "error" not in told:
        return Proof.model_validate(told)
    facts = dict(told["error"])
    message, kind = facts.pop("message"), facts.pop("type")
    known: dict[str, type[CTError]] = {each.__name__: each for each in (ServiceNotStartedError, UnknownVersionError)}
    raise known.get(kind, ProofFailedError)(message, **facts)
