"""How a command asks the training plane something: `python -m <module> <request.json> <answer.json>`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct.errors import CTError
from ct.home import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable


def answer(asked: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """Answer the request that the command line names; `{"error": ..., "facts": ...}` where ct raised on purpose."""
    request_path, answer_path = (Path(argument) for argument in sys.argv[1:])
    request = json.loads(request_path.read_text(encoding="utf-8"))
    try:
        value = asked(request)
    except CTError as error:
        value = {"error": error.message, "facts": error.facts}
    write_atomically(answer_path, json.dumps(value, default=str))
    return 0
