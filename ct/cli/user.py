"""Who runs a command, for records that keep a name."""

from __future__ import annotations

import getpass
import os


def user_name() -> str:
    """The user's name; in a container the user may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
