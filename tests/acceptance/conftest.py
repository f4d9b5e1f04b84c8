"""What the acceptance tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

FLIGHTS = Path(__file__).resolve().parents[2] / "pipelines" / "flights"
FOR_SMALL_SPANS = {
    "epochs: 3": "epochs: 8",
    "batch_size: 1024": "batch_size: 256",
    "threshold: 0.6": "threshold: 0.5",
    "min_improvement: -0.005": "min_improvement: -0.1",
}
"""A few thousand rows need more steps to learn from, and tell two models apart only roughly."""


@pytest.fixture(scope="session")
def small_flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flights pipeline, with settings for spans of a few thousand rows."""
    folder = tmp_path_factory.mktemp("pipelines") / "flights"
    shutil.copytree(FLIGHTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "pipeline.yaml"
    text = path.read_text()
    for old, new in FOR_SMALL_SPANS.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return folder
