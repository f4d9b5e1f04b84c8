"""A proof that the serving plane makes: what it is asked for, and what is said when it does not come."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from ct import proving
from ct.errors import CTError, ProofFailedError, ServiceNotStartedError, UnknownVersionError
from ct.gate_config import GuardsConfig
from ct.home import Home

if TYPE_CHECKING:
    from pathlib import Path

    from ct.contracts import Proof

PROOF = {
    "name": "flights",
    "version": 7,
    "champion_version": 6,
    "reason": "all well",
    "checks": [],
    "at": "2026-01-02T03:04:05Z",
    "seconds": 9.5,
}


@dataclass
class Plane:
    """A serving plane that is one script."""

    home: Home
    script: Path

    def does(self, code: str) -> None:
        """What the process does."""
        self.script.write_text(f"#!{sys.executable}\nimport json, os, sys\n{code}\n")
        self.script.chmod(0o755)

    def prove(self, **options: Any) -> Proof:
        """Ask for the proof of version 7."""
        return proving.prove(self.home, "flights", 7, GuardsConfig(), **{"allow_incompatible": False, **options})


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plane:
    """One that proves."""
    found = Plane(Home(tmp_path / "home").create(), tmp_path / "python")
    monkeypatch.setattr(proving, "python", lambda _: found.script)
    return found


def test_a_proof_is_read_and_the_process_knows_all_that_it_needs(plane: Plane, tmp_path: Path) -> None:
    """Limits, log, further rows, whose child it is, and the home; what it says before its last line is its own."""
    plane.does(
        f"asked = {{'arguments': sys.argv[1:], 'rows': json.load(sys.stdin), 'home': os.environ['CT_HOME'],"
        f" 'inherited': os.environ.get('OWN')}}\n"
        f"open({str(tmp_path / 'asked')!r}, 'w').write(json.dumps(asked))\n"
        f"print('loading')\nprint({json.dumps(PROOF)!r})"
    )
    rows = {"instances": [{"x": 1.0}], "predictions": [0.5]}
    log = tmp_path / "service.log"
    proof = plane.prove(allow_incompatible=True, rows=lambda: rows, log=log, environment={"OWN": "yes"})
    assert (proof.version, proof.champion_version, proof.passed) == (7, 6, True)
    asked = json.loads((tmp_path / "asked").read_text())
    assert (asked["rows"], asked["home"], asked["inherited"]) == (rows, str(plane.home.root), "yes")
    assert asked["arguments"][:4] == ["-m", "serving.proof", "flights", "7"]
    assert {"--rows", "--allow-incompatible", "--parent", str(log)} <= set(asked["arguments"])
    assert asked["arguments"][asked["arguments"].index("--latency-ratio") + 1] == "2.0"


@pytest.mark.parametrize(
    ("kind", "raised"),
    [
        ("ServiceNotStartedError", ServiceNotStartedError),
        ("UnknownVersionError", UnknownVersionError),
        ("RolloutError", ProofFailedError),
    ],
)
def test_an_error_of_the_proof_is_raised_here(plane: Plane, kind: str, raised: type[CTError]) -> None:
    """With its message and facts: only a service that did not start is worth a retry."""
    told = {"error": {"type": kind, "message": "no room", "version": 7}}
    plane.does(f"print({json.dumps(told)!r})\nsys.exit(1)")
    with pytest.raises(raised, match="no room") as error:
        plane.prove()
    assert (type(error.value), error.value.facts) == (raised, {"version": 7})


def test_a_proof_that_says_nothing_says_nothing_of_the_version(plane: Plane) -> None:
    """Such as one that the kernel killed for its memory."""
    plane.does("os.kill(os.getpid(), 9)")
    with pytest.raises(ServiceNotStartedError, match="ended with code -9 and without a word"):
        plane.prove()


def test_rows_that_cannot_be_had_end_the_process(plane: Plane, tmp_path: Path) -> None:
    """Whoever makes them raises, and no service is left running."""
    os.mkfifo(tmp_path / "begun")
    plane.does(
        "import signal\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(tmp_path / 'ended')!r}, 'w'), sys.exit(1)))\n"
        f"open({str(tmp_path / 'begun')!r}, 'w').close()\nsignal.pause()"
    )

    def rows() -> dict[str, Any]:
        (tmp_path / "begun").read_bytes()  # a pipe: waits until the process has opened it
        raise CTError("no row can be predicted")

    with pytest.raises(CTError, match="no row can be predicted"):
        plane.prove(rows=rows)
    assert (tmp_path / "ended").exists()
