"""Questions that only the training plane can answer, for commands that run in the control plane."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct.errors import ConfigError, CTError

if TYPE_CHECKING:
    from ct.home import Home

STDERR_SHOWN = 4000


def ask_training_plane(module: str, request: dict[str, Any], home: Home) -> dict[str, Any]:
    """Run a module of `ct.training` with a request, and give its answer.

    Raises:
        ConfigError: what was asked cannot be answered; the message is the module's.
        CTError: the module failed.
        PlaneMissingError: the training plane is not installed.
    """
    from ct.planes import Plane, python  # noqa: PLC0415
    from ct.settings import Settings  # noqa: PLC0415
    from ct.worker.environment import training_environment  # noqa: PLC0415

    environment = {**os.environ, **training_environment(home, Settings.load(home))}
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "request.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps(request, default=str), encoding="utf-8")
        command = [str(python(Plane.TRAINING)), "-m", module, str(asked), str(answered)]
        done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
        if not answered.exists():
            raise CTError(
                f"The training plane failed at {module}. Nothing was changed. It said:\n{done.stderr[-STDERR_SHOWN:]}"
            )
        answer: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
    if "error" in answer:
        raise ConfigError(answer["error"], **answer["facts"])
    return answer
