"""Whether a plane holds what is pinned, read off its folder names: no interpreter of the plane has to start."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)
"""`name==version` at the start of a line of a compiled requirements file."""


def differences(requirements: Path, environment: Path) -> list[str]:
    """What an environment lacks or has in another version; packages beyond the pins are fine.

    Args:
        requirements: the plane's compiled requirements file.
        environment: the plane's folder.

    Returns:
        Lines such as `numpy is 1.26.3, not 1.26.4`, ordered by name.
    """
    return _compare(pinned(requirements.read_text(encoding="utf-8")), _installed(environment))


def pinned(text: str) -> dict[str, str]:
    """Name -> version in a compiled requirements file; names as PEP 503 writes them."""
    return {_normal(name): version for name, version in PIN.findall(text)}


def _installed(environment: Path) -> dict[str, str]:
    folders = environment.glob("lib/python3.*/site-packages/*.dist-info")
    halves = (folder.name.removesuffix(".dist-info").rpartition("-") for folder in folders)
    return {_normal(name): version for name, _, version in halves}


def _compare(wanted: Mapping[str, str], installed: Mapping[str, str]) -> list[str]:
    return [
        f"{name} is {installed[name]}, not {version}" if name in installed else f"{name} is missing"
        for name, version in sorted(wanted.items())
        if installed.get(name) != version
    ]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
