"""Tells of changes of what is desired, where the system can tell."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from watchfiles import watch

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from watchfiles import Change

LOG = logging.getLogger("ct.serving")
DEBOUNCE_MS, STEP_MS = 20, 5
WATCH_AGAIN_S = 60.0


def watch_desired(models: Path, changed: Callable[[], None], stopped: threading.Event) -> None:
    """Call `changed` after a desired.json below the folder has changed, until `stopped` is set.

    Whoever relies on it looks by itself now and then: some file systems tell of nothing, and the system may have no watch to
    give. The log says so then, and a watch is asked for again each minute.
    """
    while not stopped.is_set():
        try:
            for _ in watch(
                models,
                watch_filter=_is_desired_state,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                stop_event=stopped,
                raise_interrupt=False,
            ):
                changed()
        except (
            Exception
        ):  # such as the system's limit of inotify watches, which watchfiles raises as OSError, or anything else
            LOG.exception("%s cannot be watched; changes there are seen a little later, by looking", models)
            stopped.wait(WATCH_AGAIN_S)


def _is_desired_state(_change: Change, path: str) -> bool:
    return os.path.basename(path) == "desired.json"  # noqa: PTH119  called for every file event
