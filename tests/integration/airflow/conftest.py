"""One Airflow for all tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from airflow_stack import Stack, running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running Airflow with one deployed pipeline, `tiny`."""
    with running_stack(tmp_path_factory.mktemp("airflow")) as running:
        yield running
