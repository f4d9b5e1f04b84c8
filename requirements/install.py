"""`make setup`: the three environments from hashed pins, with any Python 3 and pip to begin with.

An environment is redone when its pins, its interpreter or pyproject.toml change, and left alone otherwise: a stamp inside
it, written last, says what it was made from.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
REQUIREMENTS = PROJECT / "requirements"
TOOLS = PROJECT / ".uv"
"""uv, and the logs of the set-up."""
UV = TOOLS / "bin" / "uv"
PLANES = (("control", ".venv", "3.11"), ("training", ".venv-training", "3.10"), ("serving", ".venv-serving", "3.11"))
LOG_LINES_SHOWN = 20


class SetupError(Exception):
    """The set-up cannot go on; the message says what to do."""


def main() -> int:
    """Set all planes up; 0 when they are ready."""
    TOOLS.mkdir(exist_ok=True)
    try:
        with (TOOLS / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            install_uv()
            for plane, folder, version in PLANES:
                install_plane(plane, PROJECT / folder, version)
    except SetupError as error:
        print(f"set-up stopped: {error}", file=sys.stderr)
        return 1
    return 0


def install_uv() -> None:
    """The pinned uv, into a folder of the project's own."""
    pins = REQUIREMENTS / "uv.txt"
    stamp = TOOLS / "stamp"
    wanted = _digest(pins)
    if UV.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(TOOLS / "bin", ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--upgrade",
        "--require-hashes",
        "--only-binary",
        ":all:",
    ]
    _run([*command, "--target", str(TOOLS), "--requirement", str(pins)], "uv")
    stamp.write_text(wanted)


def install_plane(plane: str, folder: Path, version: str) -> None:
    """One environment, exactly its pins, with compiled bytecode, and ct itself editable."""
    interpreter = find_python(version)
    pins = REQUIREMENTS / f"{plane}.txt"
    stamp = folder / "ct-setup.json"
    wanted = {"pins": _digest(pins), "pyproject": _digest(PROJECT / "pyproject.toml"), "python": interpreter}
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        print(f"{plane}: up to date")
        return
    began = time.monotonic()
    print(f"{plane}: Python {version}, {_count(pins)} packages into {folder.name} ...", flush=True)
    stamp.unlink(missing_ok=True)
    _run([str(UV), "venv", "--quiet", "--clear", "--python", interpreter, str(folder)], plane)
    into = [str(UV), "pip", "install", "--quiet", "--no-deps", "--python", str(folder / "bin" / "python")]
    _run([*into, "--compile-bytecode", "--require-hashes", "--requirement", str(pins)], plane)
    _run([*into, "--no-build-isolation", "--editable", str(PROJECT)], plane)
    stamp.write_text(json.dumps(wanted))
    print(f"{plane}: ready after {time.monotonic() - began:.0f} s", flush=True)


def find_python(version: str) -> str:
    """The path of an interpreter of this version that really runs.

    A pyenv shim on the path may be for another version, so every candidate is asked.

    Raises:
        SetupError: there is none.
    """
    found = subprocess.run(
        [str(UV), "python", "find", version], env=_environment(), capture_output=True, text=True, check=False
    )
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [
        os.environ.get(f"CT_PYTHON{version.replace('.', '')}"),
        *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")), reverse=True),
        found.stdout.strip(),
        shutil.which(f"python{version}"),
        f"/usr/bin/python{version}",
        f"/usr/local/bin/python{version}",
    ]
    for candidate in candidates:
        if candidate and _version_of(candidate) == version:
            return candidate
    raise SetupError(
        f"Python {version} was not found. Install it with your system's packages, with `uv python install {version}` or with "
        f"`pyenv install {version}`, or name it in CT_PYTHON{version.replace('.', '')}."
    )


def _version_of(python: str) -> str | None:
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _run(command: list[str], log_name: str) -> None:
    log = TOOLS / f"{log_name}.log"
    with log.open("a") as file:
        done = subprocess.run(command, env=_environment(), stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
        raise SetupError(f"`{' '.join(command[:3])} ...` failed with {done.returncode}; {log} ends:\n{tail}")


def _environment() -> dict[str, str]:
    """Ours, but never a Python that uv would download, and no virtual environment of the caller's."""
    kept = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    return {**kept, "UV_PYTHON_DOWNLOADS": "never"}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _count(pins: Path) -> int:
    return sum("==" in line for line in pins.read_text().splitlines())


if __name__ == "__main__":
    sys.exit(main())
