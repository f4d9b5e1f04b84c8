"""What a model is made with and no deploy decides: ct's own code and the planes' pins, as they are on disk now."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from ct import __version__
from ct.contracts import MadeWith
from ct.planes import PROJECT, requirement_hashes

CODE = Path(__file__).parent
ROOMS_THAT_MAKE_NO_MODEL = (
    *(
        "airflow",
        "cli",
        "daemon",
        "export",
        "garbage",
        "gate",
        "monitor",
        "registry",
        "reproduce",
        "rollout",
        "triggers",
    ),
    "verdict_page",
)
"""No node that makes a model runs their code. Every other file of ct counts, one in a new room too."""


def made_with_now() -> MadeWith:
    """Some 40 ms: a hundred small files, and git where there is a checkout."""
    return MadeWith(
        version=__version__,
        code_sha256=code_sha256(CODE),
        commit=commit_of(PROJECT, "ct", "requirements"),
        requirement_hashes=requirement_hashes(),
    )


def code_sha256(folder: Path) -> str:
    """The hash of what ct itself does when a model is made: its Python files, without ROOMS_THAT_MAKE_NO_MODEL."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if name.parts[0] not in ROOMS_THAT_MAKE_NO_MODEL:
            digest.update(f"\0{name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def commit_of(folder: Path, *paths: str) -> str | None:
    """The folder's git commit, with `-dirty` where these paths in it have changes; None outside a repository or without git."""
    if shutil.which("git") is None:
        return None
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=False, capture_output=True, text=True)
    if commit.returncode != 0:
        return None
    # without locks: a node that starts must not be in the way of whoever works in the checkout
    status = ["git", "--no-optional-locks", "status", "--porcelain", "--", *paths]
    changed = subprocess.run(status, cwd=folder, check=False, capture_output=True, text=True)
    return commit.stdout.strip() + ("-dirty" if changed.stdout else "")
