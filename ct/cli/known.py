"""Which models there are, for every command that takes the name of one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from ct.errors import ConfigError

if TYPE_CHECKING:
    from ct.home import Home
    from ct.rollout import ModelStore


def known_models(home: Home) -> list[str]:
    """The models that have a version, or one that should serve."""
    folders = [path.parent for path in home.models.glob("*/desired.json")]
    folders += [path.parents[2] for path in home.models.glob("*/versions/*/manifest.json")]
    return sorted({folder.name for folder in folders})


def model_store(home: Home, name: str) -> ModelStore:
    """The store of a model that there is.

    Raises:
        HomeError: the home is not set up.
        ConfigError: there is no such model; the message names the nearest.
    """
    from ct.rollout import ModelStore  # noqa: PLC0415

    home.check_layout()
    known = known_models(home)
    if name not in known:
        near = next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), None)
        hint = f"; did you mean `{near}`?" if near else "."
        raise ConfigError(f'There is no model "{name}" (models: {", ".join(known) or "none yet"}){hint}', name=name)
    return ModelStore(home, name)
