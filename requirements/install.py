"""`make setup`: the three environments from hashed pins, with any Python 3 and pip to begin with.

An environment is redone when its pins or its interpreter change, or when the project has moved; when only pyproject.toml
changes, `ct` alone is installed anew; otherwise it is left alone. A stamp inside each environment, written last, says what
it was made from, so an interrupted set-up is never taken for a whole one.
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
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parent.parent
REQUIREMENTS = PROJECT / "requirements"
TOOLS = PROJECT / ".uv"
"""uv, and the logs of the set-up."""
UV = TOOLS / "bin" / "uv"
PLANES = (("control", ".venv", "3.11"), ("training", ".venv-training", "3.10"), ("serving", ".venv-serving", "3.11"))
STAMP = "ct-setup.json"
LOG_LINES_SHOWN = 20
KEPT_SETTINGS = (
    *("INDEX", "FIND_LINKS", "CACHE", "CONFIG_FILE", "CERT", "TLS", "HOST", "PROXY", "KEYRING", "OFFLINE"),
    *("HTTP", "TIMEOUT", "RETRIES", "CONCURRENT", "LINK_MODE", "INSTALL_DIR", "DISABLE_PIP_VERSION_CHECK"),
)
"""PIP_* and UV_* variables with these words say where packages come from and are kept. Others, such as UV_NO_VERIFY_HASHES
or PIP_TARGET, would change what is installed or where."""


class SetupError(Exception):
    """The set-up cannot go on; the message says what to do."""


def main(arguments: list[str]) -> int:
    """Set all planes up, or with the argument `uv` only uv; 0 when that is done."""
    TOOLS.mkdir(exist_ok=True)
    try:
        with alone():
            install_uv()
            if arguments != ["uv"]:
                install_planes()
    except SetupError as error:
        print(f"set-up stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("set-up interrupted; `make setup` takes it up again", file=sys.stderr)
        return 130
    return 0


def install_uv() -> None:
    """The pinned uv, into a folder of the project's own."""
    pins = REQUIREMENTS / "uv.txt"
    stamp = TOOLS / "stamp"
    wanted = digest(pins)
    if _runs(UV) and read(stamp) == wanted:
        return
    print("uv: fetching", flush=True)
    stamp.unlink(missing_ok=True)
    shutil.rmtree(TOOLS / "bin", ignore_errors=True)
    command = [*_pip(), "install", "--quiet", "--upgrade", "--require-hashes", "--only-binary", ":all:"]
    run([*command, "--target", str(TOOLS), "--requirement", str(pins)], "uv")
    write(stamp, wanted)


def install_planes() -> None:
    """Every plane that is not as it should be; all interpreters are looked for before the first is built."""
    stale = [(plane, PROJECT / folder, version) for plane, folder, version in PLANES]
    stale = [each for each in stale if not _is_current(*each)]
    if not stale:
        print("all three planes are up to date")
        return
    to_build = [each for each in stale if not _is_current(*each, but_for=("pyproject",))]
    interpreters = find_pythons(sorted({version for _, _, version in to_build}))
    for plane, folder, version in stale:
        began = time.monotonic()
        rebuild = (plane, folder, version) in to_build
        what = f"Python {version}, {_count(plane)} packages" if rebuild else "installing ct again"
        print(f"{plane}: {what}, into {folder.name} (log: {_log(plane).relative_to(PROJECT)})", flush=True)
        (folder / STAMP).unlink(missing_ok=True)
        if rebuild:
            _build(plane, folder, interpreters[version])
        run([*into(folder), "--no-build-isolation", "--editable", str(PROJECT)], plane)
        write(folder / STAMP, json.dumps(_wanted(plane, version)))
        print(f"{plane}: ready after {time.monotonic() - began:.0f} s", flush=True)


def find_pythons(versions: list[str]) -> dict[str, str]:
    """Version -> the path of an interpreter that really runs.

    Raises:
        SetupError: for one there is none.
    """
    found = {version: find_python(version) for version in versions}
    missing = [version for version, path in found.items() if path is None]
    if missing:
        names = " and ".join(f"Python {version}" for version in missing)
        uv = UV.relative_to(PROJECT)
        raise SetupError(
            f"{names} not found; nothing was built. Get it with `{uv} python install {' '.join(missing)}`, with "
            f"`pyenv install {' '.join(missing)}` or from your system's packages; or name the interpreter: "
            f"`{' '.join(f'{_variable(version)}=/path/to/python{version}' for version in missing)} make setup`."
        )
    return {version: path for version, path in found.items() if path is not None}


def find_python(version: str) -> str | None:
    """An interpreter of this version: the one that a variable names, else pyenv's, uv's, the path's or the system's.

    Each candidate is asked, because a pyenv shim on the path may be there and not run. `--system` keeps uv from answering
    with the very environment that is to be built.
    """
    asked = [str(UV), "python", "find", "--system", "--no-project", version]
    by_uv = subprocess.run(asked, env=_environment(), capture_output=True, text=True, check=False)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [
        os.environ.get(_variable(version)),
        *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")), reverse=True),
        by_uv.stdout.strip(),
        shutil.which(f"python{version}"),
        f"/usr/bin/python{version}",
        f"/usr/local/bin/python{version}",
    ]
    return next((each for each in candidates if each and version_of(each) == version), None)


def _build(plane: str, folder: Path, interpreter: str) -> None:
    """The environment with exactly its pins, and bytecode for them."""
    run([str(UV), "venv", "--quiet", "--clear", "--no-project", "--python", interpreter, str(folder)], plane)
    pins = str(REQUIREMENTS / f"{plane}.txt")
    run([*into(folder), "--compile-bytecode", "--require-hashes", "--requirement", pins], plane)


def into(folder: Path) -> list[str]:
    """The command that installs into an environment."""
    return [str(UV), "pip", "install", "--quiet", "--no-deps", "--python", str(folder / "bin" / "python")]


def _is_current(plane: str, folder: Path, version: str, but_for: tuple[str, ...] = ()) -> bool:
    """True when the stamp says what is wanted now and the environment's interpreter is still there."""
    wanted = _wanted(plane, version)
    try:
        made_from = json.loads(read(folder / STAMP))
    except ValueError:
        return False
    same = all(made_from.get(key) == value for key, value in wanted.items() if key not in but_for)
    return same and version_of(str(folder / "bin" / "python")) == version


def _wanted(plane: str, version: str) -> dict[str, str]:
    return {
        "pins": digest(REQUIREMENTS / f"{plane}.txt"),
        "python": version,
        "project": str(PROJECT),  # scripts of an environment hold its path
        "pyproject": digest(PROJECT / "pyproject.toml"),
    }


def version_of(python: str) -> str | None:
    """What an interpreter says of itself; None when it does not run."""
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _pip() -> list[str]:
    """A pip that runs: this interpreter's, or one on the path.

    Raises:
        SetupError: there is none.
    """
    for command in ([sys.executable, "-m", "pip"], ["pip3"], ["pip"]):
        if _runs(*command):
            return command
    raise SetupError(
        "pip not found. Install it from your system's packages (python3-pip), or use a python3 that has it."
    )


def _runs(*command: str | Path) -> bool:
    try:
        return subprocess.run([*command, "--version"], capture_output=True, check=False, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def run(command: list[str], log_name: str) -> None:
    """Run a step of the set-up.

    Raises:
        SetupError: it failed; the message ends with the end of its log.
    """
    log = _log(log_name)
    with log.open("a") as file:
        done = subprocess.run(
            command, env=_environment(), cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
        raise SetupError(f"`{' '.join(command[:3])} ...` failed with {done.returncode}; {log} ends:\n{tail}")


def _environment() -> dict[str, str]:
    """The caller's, without what would install other things or elsewhere; and uv never downloads a Python unasked."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PIP_", "UV_")) or any(word in key for word in KEPT_SETTINGS)
    }
    for key in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME"):
        kept.pop(key, None)
    kept.setdefault("UV_SYSTEM_CERTS", "true")  # as pip does
    if not any("INDEX" in key and value for key, value in kept.items() if key.startswith("UV_")) and _index_of_pip():
        kept["UV_DEFAULT_INDEX"] = _index_of_pip()
    return {**kept, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "UV_PYTHON_DOWNLOADS": "never"}


@lru_cache
def _index_of_pip() -> str:
    """The package index that pip is told to use here, which uv does not read; empty for the public one."""
    told = os.environ.get("PIP_INDEX_URL")
    asked = subprocess.run([*_pip(), "config", "get", "global.index-url"], capture_output=True, text=True, check=False)
    return told or asked.stdout.strip()


@contextmanager
def alone() -> Iterator[None]:
    """One set-up at a time; the lock goes with the process that holds it."""
    with (TOOLS / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another `make setup` in this folder", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _variable(version: str) -> str:
    return f"CT_PYTHON{version.replace('.', '')}"


def _log(name: str) -> Path:
    return TOOLS / f"{name}.log"


def digest(path: Path) -> str:
    """The hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _count(plane: str) -> int:
    return sum("==" in line for line in (REQUIREMENTS / f"{plane}.txt").read_text().splitlines())


def read(path: Path) -> str:
    """A file's text; empty when there is none."""
    return path.read_text() if path.exists() else ""


def write(path: Path, text: str) -> None:
    """In one step: a stamp that is there is whole."""
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_text(text)
    unfinished.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
