"""The peers' environments, from hashed pins and by the rules of `make setup`, and the two load generators."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib import metadata
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.serving.places import BENCH, ENVIRONMENTS, REQUIREMENTS
from requirements import install

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PYTHON_VERSION = "3.11"
PEERS = ("bentoml", "mlserver", "mlflow")
VEGETA_MODULE, VEGETA_VERSION = "github.com/tsenart/vegeta/v12", "v12.13.0"
"""Constant rates need a generator that keeps its rate when answers are slow; wrk waits for them."""


def install_peers(say: Callable[[str], None]) -> None:
    """Build each peer's environment that is not as its pins say. A second call takes a moment.

    Raises:
        BenchError: a build failed, or there is no Python of the version.
    """
    try:
        with install.alone():
            install.install_uv()
            for peer in PEERS:
                _install(peer, say)
    except install.SetupError as error:
        raise BenchError(str(error)) from error


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment."""
    return ENVIRONMENTS / peer / "bin" / "python"


def wrk(say: Callable[[str], None]) -> str:
    """The path of wrk; installed from Debian's packages where that is possible.

    Raises:
        BenchError: it is missing and cannot be installed from here.
    """
    found = shutil.which("wrk")
    if found:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BenchError(
            "wrk not found. Install it, on Debian or Ubuntu with `sudo apt-get install wrk`, and try again."
        )
    say("wrk: installing the Debian package")
    done = subprocess.run(["apt-get", "install", "-y", "wrk"], capture_output=True, text=True, check=False)
    found = shutil.which("wrk")
    if found is None:
        raise BenchError(f"`apt-get install -y wrk` exited with {done.returncode}: {done.stderr.strip()[-500:]}")
    return found


def vegeta(say: Callable[[str], None]) -> str:
    """The path of the pinned vegeta, built with Go on the first call.

    Raises:
        BenchError: Go is missing, or the build failed.
    """
    folder = BENCH / f"vegeta-{VEGETA_VERSION}"
    program = folder / "vegeta"
    if program.exists():
        return str(program)
    go = shutil.which("go")
    if go is None:
        raise BenchError("vegeta is built with Go, which is not found. Install Go 1.22 or newer and try again.")
    say(f"vegeta: building {VEGETA_VERSION}")
    unfinished = folder.with_suffix(".unfinished")
    environment = {**os.environ, "GOBIN": str(unfinished), "GOFLAGS": ""}
    command = [go, "install", f"{VEGETA_MODULE}@{VEGETA_VERSION}"]
    done = subprocess.run(command, env=environment, cwd=BENCH, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"`{' '.join(command)}` exited with {done.returncode}: {done.stderr.strip()[-1000:]}")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return str(program)


def versions(wrk_path: str) -> dict[str, str]:
    """What was measured with what: package or tool -> version."""
    told = subprocess.run([wrk_path, "-v"], capture_output=True, text=True, check=False).stdout.split()
    pins = {peer: _pins(REQUIREMENTS / f"{peer}.txt") for peer in PEERS}
    return {
        "ct": metadata.version("ct"),
        **{peer: pins[peer][peer] for peer in PEERS},
        "tensorflow-cpu": pins["bentoml"]["tensorflow-cpu"],
        "wrk": told[1] if len(told) > 1 else "unknown",
        "vegeta": VEGETA_VERSION.removeprefix("v"),
    }


def _install(peer: str, say: Callable[[str], None]) -> None:
    folder, pins = ENVIRONMENTS / peer, REQUIREMENTS / f"{peer}.txt"
    stamp = folder / install.STAMP
    wanted = json.dumps({"pins": install.digest(pins), "python": PYTHON_VERSION, "folder": str(folder)})
    runs = install.version_of(str(python_of(peer))) == PYTHON_VERSION
    if runs and install.read(stamp) == wanted:
        return
    say(f"{peer}: Python {PYTHON_VERSION}, {len(_pins(pins))} packages, into .bench/envs/{peer}")
    interpreter = install.find_pythons([PYTHON_VERSION])[PYTHON_VERSION]
    stamp.unlink(missing_ok=True)
    log = f"bench-{peer}"
    venv = [str(install.UV), "venv", "--quiet", "--clear", "--no-project", "--python", interpreter, str(folder)]
    install.run(venv, log)
    into = install.into(folder)
    install.run([*into, "--compile-bytecode", "--require-hashes", "--requirement", str(pins)], log)
    install.write(stamp, wanted)


def _pins(path: Path) -> dict[str, str]:
    """Package -> pinned version, of a requirements file."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines() if "==" in line)
    return dict(words[0].split("==", 1) for words in lines)
