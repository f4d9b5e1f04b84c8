"""A deployed tiny pipeline, and two runs of it that most tests look at."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from tiny_run import NOW, TINY, UP_TO_GATE, Run, serve, write_span

from ct.contracts import RunRequest, Span, TriggerKind
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

    def make(run_id: str, *paths: Path) -> Run:
        spans = tuple(
            Span(
                pipeline=spec.pipeline,
                name=path.stem,
                revision=1,
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                uri=str(path),
                format="csv",
                size_bytes=path.stat().st_size,
                seen_at=NOW,
            )
            for path in paths
        )
        request = RunRequest(
            run_id=run_id,
            pipeline=spec.pipeline,
            spec_hash=spec.spec_hash,
            trigger=TriggerKind.MANUAL,
            requested_at=NOW,
            spans=spans,
            new_spans=(spans[-1].name,),
            seed=7,
            airflow_dag_id=spec.pipeline,
            airflow_run_id="test",
            mlflow_run_id=None,
        )
        path = home.request_path(run_id)
        path.parent.mkdir(parents=True)
        path.write_text(request.model_dump_json(), encoding="utf-8")
        return Run(home, spec, request)

    return make


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
