"""A deployed tiny pipeline, and two runs of it that most tests look at."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from tiny_run import TINY, UP_TO_GATE, Run, make_run, serve, write_span

from ct.deploy import deploy
from ct.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ct.contracts import DeployedSpec


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A CT_HOME with the tiny pipeline deployed."""
    return Home(tmp_path_factory.mktemp("home")).create()


@pytest.fixture(scope="session")
def spec(home: Home) -> DeployedSpec:
    """The tiny pipeline, compiled."""
    return deploy(TINY, home, on_line=print).spec


@pytest.fixture(scope="session")
def new_run(home: Home, spec: DeployedSpec) -> Callable[..., Run]:
    """Make a run over span files, oldest first."""
    return partial(make_run, home, spec)


@pytest.fixture(scope="session")
def spans(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two good spans."""
    folder = tmp_path_factory.mktemp("spans")
    return write_span(folder / "2013-01.csv", month=1), write_span(folder / "2013-02.csv", month=2)


@pytest.fixture(scope="session")
def first_run(new_run: Callable[..., Run], spans: tuple[Path, Path]) -> Run:
    """The first span, up to the gate, with a refit; nothing serves yet."""
    return new_run("tiny-first", spans[0]).through((*UP_TO_GATE, "Refit"))


@pytest.fixture(scope="session")
def second_run(first_run: Run, new_run: Callable[..., Run], spans: tuple[Path, Path]) -> Run:
    """The second span, up to the gate, while the first run's model serves as version 1."""
    serve(first_run, version=1)
    return new_run("tiny-second", *spans).through(UP_TO_GATE)
