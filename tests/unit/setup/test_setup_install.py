"""`make setup`: what it builds, what it leaves alone, and what it says. uv is a script that notes what it was asked."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

INSTALL = Path(__file__).resolve().parents[3] / "requirements" / "install.py"
PLANES = (".venv", ".venv-training", ".venv-serving")
UV = """\
#!/usr/bin/env bash
# `uv venv` makes a folder with an interpreter of the version that the given one says it has.
if [ "$1" = --version ]; then exit 0; fi
echo "$*" >> "$UV_CACHE_DIR/asked"
env > "$UV_CACHE_DIR/environment"
if [ -e "$UV_CACHE_DIR/broken" ]; then echo "no space left on the index"; exit 9; fi
if [ "$1" = venv ]; then
  for last in "$@"; do :; done
  rm -rf "$last"; mkdir -p "$last/bin"
  while [ "$1" != --python ]; do shift; done
  cp "$2" "$last/bin/python"
fi
"""


class Project:
    """A checkout in a temporary folder, where nothing real is installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cache = root / "cache"
        (root / "requirements").mkdir(parents=True)
        self.cache.mkdir()
        shutil.copy(INSTALL, root / "requirements")
        for name in ("control", "training", "serving", "uv"):
            (root / "requirements" / f"{name}.txt").write_text(f"{name}==1.0 --hash=sha256:0\n")
        (root / "pyproject.toml").write_text("[project]\n")
        self.uv = root / ".uv" / "bin" / "uv"
        self.executable(self.uv, UV)
        (root / ".uv" / "stamp").write_text(self.module().__dict__["digest"](root / "requirements" / "uv.txt"))
        self.pythons = {version: self.python(version) for version in ("3.10", "3.11")}

    def module(self) -> ModuleType:
        """install.py of this checkout."""
        spec = importlib.util.spec_from_file_location("install", self.root / "requirements" / "install.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def executable(self, path: Path, text: str) -> Path:
        """A script."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def python(self, version: str) -> Path:
        """Something that says it is this Python."""
        return self.executable(self.root / "pythons" / version, f"#!/bin/sh\necho {version}\n")

    def setup(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run install.py; with no Python of this machine in reach but the two stubs."""
        env = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("UV_", "CT_"))},
            "PYENV_ROOT": str(self.root / "nowhere"),
            "UV_CACHE_DIR": str(self.cache),
            "UV_INDEX_URL": "http://mirror",  # else pip is asked for its own, which takes a second
            **{f"CT_PYTHON{version.replace('.', '')}": str(path) for version, path in self.pythons.items()},
            **environment,
        }
        command = [sys.executable, str(self.root / "requirements" / "install.py"), *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)

    def asked(self) -> str:
        """What uv was asked since the last look."""
        path = self.cache / "asked"
        text = path.read_text() if path.exists() else ""
        path.unlink(missing_ok=True)
        return text


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A checkout with uv installed and no plane."""
    return Project(tmp_path / "checkout")


def test_three_planes_are_built_once(project: Project) -> None:
    """From hashed pins with bytecode, then ct itself; the next set-up asks uv for nothing."""
    done = project.setup()
    assert done.returncode == 0, done.stderr
    asked = project.asked()
    for plane, folder in zip(("control", "training", "serving"), PLANES, strict=True):
        assert json.loads((project.root / folder / "ct-setup.json").read_text())["python"]
        assert f"--compile-bytecode --require-hashes --requirement {project.root}/requirements/{plane}.txt" in asked
    assert asked.count(f"--no-build-isolation --editable {project.root}") == 3
    again = project.setup()
    assert again.returncode == 0
    assert "up to date" in again.stdout
    assert project.asked() == ""


def test_changed_pins_rebuild_their_plane_only(project: Project) -> None:
    """The two others are left alone."""
    project.setup()
    project.asked()
    (project.root / "requirements" / "serving.txt").write_text("serving==2.0\n")
    assert project.setup().returncode == 0
    asked = project.asked()
    assert "serving.txt" in asked
    assert "control.txt" not in asked
    assert "training.txt" not in asked


def test_a_changed_pyproject_installs_only_ct_again(project: Project) -> None:
    """A line of the linter's configuration does not cost three environments."""
    project.setup()
    project.asked()
    (project.root / "pyproject.toml").write_text("[project]\nname = 'ct'\n")
    assert project.setup().returncode == 0
    asked = project.asked()
    assert asked.count("--editable") == 3
    assert "venv" not in asked.split()
    assert "--requirement" not in asked


def test_an_interrupted_setup_is_redone(project: Project) -> None:
    """The stamp comes last: an environment without one, or with a part of one, is built anew."""
    project.setup()
    project.asked()
    stamp = project.root / ".venv-training" / "ct-setup.json"
    for text in (None, "", '{"pins": "'):
        stamp.unlink() if text is None else stamp.write_text(text)
        assert project.setup().returncode == 0
        assert "training.txt" in project.asked()


def test_an_environment_whose_python_has_gone_is_rebuilt(project: Project) -> None:
    """An interpreter that was uninstalled leaves a dangling link behind."""
    project.setup()
    project.asked()
    (project.root / ".venv" / "bin" / "python").unlink()
    assert project.setup().returncode == 0
    assert "control.txt" in project.asked()


def test_a_moved_project_is_set_up_anew(project: Project, tmp_path: Path) -> None:
    """Scripts of an environment hold the path that it was made under."""
    project.setup()
    project.asked()
    project.root.rename(tmp_path / "moved")
    project.root, project.cache = tmp_path / "moved", tmp_path / "moved" / "cache"
    project.pythons = {version: project.python(version) for version in project.pythons}
    assert project.setup().returncode == 0
    assert project.asked().count("--requirement") == 3


def test_a_missing_python_is_told_before_anything_is_built(project: Project) -> None:
    """What is missing and how to get it; no environment has been begun."""
    shim = project.executable(project.root / "shims" / "python3.10", "#!/bin/sh\nexit 127\n")
    done = project.setup(CT_PYTHON310=str(shim), PATH=f"{shim.parent}:/usr/bin:/bin")
    if Path("/usr/bin/python3.10").exists() or Path("/usr/local/bin/python3.10").exists():
        pytest.skip("this machine has a Python 3.10 of its own")
    assert done.returncode == 1
    assert "Python 3.10 not found; nothing was built" in done.stderr
    assert "uv python install 3.10" in done.stderr
    assert not (project.root / ".venv").exists()


def test_an_interpreter_that_does_not_run_is_passed_over(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pyenv shim on the path exits with 127 when its version is not the active one; pyenv's own folder has it."""
    monkeypatch.setenv("CT_PYTHON310", str(project.executable(project.root / "shim", "#!/bin/sh\nexit 127\n")))
    real = project.executable(project.root / "pyenv/versions/3.10.13/bin/python", "#!/bin/sh\necho 3.10\n")
    monkeypatch.setenv("PYENV_ROOT", str(project.root / "pyenv"))
    monkeypatch.setenv("UV_CACHE_DIR", str(project.cache))
    assert project.module().find_python("3.10") == str(real)


def test_uv_never_answers_with_the_environment_that_is_to_be_built(project: Project) -> None:
    """Inside the project it would find `.venv` first, which the build then removes."""
    for version in ("3.10", "3.11"):
        project.pythons[version].unlink()
    project.setup(PATH="/usr/bin:/bin")
    assert "python find --system --no-project 3.10" in project.asked()


def test_a_failure_shows_the_end_of_its_log(project: Project) -> None:
    """And leaves no stamp, so that the next set-up goes on."""
    (project.cache / "broken").touch()
    done = project.setup()
    assert done.returncode == 1
    assert "no space left on the index" in done.stderr
    assert ".uv/control.log" in done.stderr
    (project.cache / "broken").unlink()
    assert project.setup().returncode == 0


def test_the_callers_settings_cannot_change_what_is_installed(project: Project) -> None:
    """Where packages come from is the caller's business; which, and that their hashes are checked, is not."""
    hostile = {"UV_NO_VERIFY_HASHES": "1", "UV_CONSTRAINT": "/x", "PIP_TARGET": "/x", "VIRTUAL_ENV": "/x"}
    done = project.setup(**hostile, PIP_FIND_LINKS="/wheels")
    assert done.returncode == 0
    seen = dict(line.split("=", 1) for line in (project.cache / "environment").read_text().splitlines() if "=" in line)
    assert not hostile.keys() & seen.keys()
    assert (seen["UV_INDEX_URL"], seen["PIP_FIND_LINKS"]) == ("http://mirror", "/wheels")
    assert seen["UV_PYTHON_DOWNLOADS"] == "never"


def test_pips_index_is_uvs_index_too(project: Project) -> None:
    """A mirror is usually told to pip only."""
    assert project.setup(UV_INDEX_URL="", PIP_INDEX_URL="http://mirror/simple").returncode == 0
    assert "UV_DEFAULT_INDEX=http://mirror/simple\n" in (project.cache / "environment").read_text()


def test_two_setups_at_once_take_turns(project: Project) -> None:
    """The second says what it waits for."""
    with (project.root / ".uv" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, str(project.root / "requirements" / "install.py"), "uv"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
            assert waiting.stdout
            assert "waiting for another" in waiting.stdout.readline()
            assert waiting.poll() is None
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert waiting.wait(timeout=30) == 0


def test_without_pip_it_says_so(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, no traceback."""
    module = project.module()
    monkeypatch.setattr(module.sys, "executable", "/nowhere/python3")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(module.SetupError, match="pip not found"):
        module.__dict__["_pip"]()
