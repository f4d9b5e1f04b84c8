"""The three environments, and where their interpreters are."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from enum import Enum
from pathlib import Path

from ct.errors import PlaneMissingError

PROJECT = Path(__file__).resolve().parent.parent
SETUP_STAMP = "ct-setup.json"
"""requirements/install.py writes it into each environment, last."""


class Plane(str, Enum):
    """An environment with pins of its own; docs/adr/0001 says why there are three."""

    CONTROL = "control"
    TRAINING = "training"
    SERVING = "serving"


_FOLDERS = {Plane.CONTROL: ".venv", Plane.TRAINING: ".venv-training", Plane.SERVING: ".venv-serving"}


def environment(plane: Plane) -> Path:
    """The plane's environment folder: `CT_TRAINING_ENV` and the like where set, else beside the project."""
    return Path(os.environ.get(f"CT_{plane.name}_ENV") or PROJECT / _FOLDERS[plane])


def python(plane: Plane) -> Path:
    """The plane's interpreter.

    Raises:
        PlaneMissingError: it is not installed.
    """
    path = environment(plane) / "bin" / "python"
    if not path.exists():
        raise PlaneMissingError(
            f"The {plane.value} plane is not installed: {path} does not exist. Run `make setup`.",
            plane=plane.value,
            path=str(path),
        )
    return path


def requirements(plane: Plane) -> Path:
    """The plane's hashed requirements file, which a run's record names by its hash."""
    return PROJECT / "requirements" / f"{plane.value}.txt"


def requirement_hashes() -> dict[str, str]:
    """Plane -> sha256 of the requirements file that its environment was installed from."""
    return {plane.value: _installed_from(plane) for plane in Plane}


def _installed_from(plane: Plane) -> str:
    """As `make setup` left it in the environment, because the file may be newer. Without that, the file's own hash."""
    try:
        return str(json.loads((environment(plane) / SETUP_STAMP).read_text(encoding="utf-8"))["pins"])
    except FileNotFoundError:
        return hashlib.sha256(requirements(plane).read_bytes()).hexdigest()


def is_current(plane: Plane) -> bool:
    """True when this very process runs in the plane."""
    return Path(sys.prefix).resolve() == environment(plane).resolve()
