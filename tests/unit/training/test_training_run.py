"""What a node reads of its run."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ct.contracts import DeployedSpec, MadeWith, NodeResult, RunRequest, Span, TriggerKind
from ct.home import Home
from ct.training.run import Run
from tests.manifests import MADE_WITH

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
OLDER = MADE_WITH.model_copy(update={"code_sha256": "0" * 64})


def run_with(folder: Path, **made_with: MadeWith | None) -> Run:
    """A run whose nodes have run with this."""
    home = Home(folder).create()
    span = Span(pipeline="p", name="s", revision=1, sha256="1" * 64, uri="/in", format="csv", size_bytes=1, seen_at=NOW)
    request = RunRequest(
        run_id="r",
        pipeline="p",
        spec_hash="0",
        trigger=TriggerKind.MANUAL,
        requested_at=NOW,
        spans=(span,),
        new_spans=(),
        seed=1,
        airflow_dag_id="p",
        airflow_run_id="a",
        mlflow_run_id=None,
    )
    spec = DeployedSpec(
        spec_hash="0",
        pipeline="p",
        config={},
        nodes=(),
        readme="",
        deployed_at=NOW,
        code_commit=None,
        requirement_hashes={},
    )
    (home.runs / "r").mkdir(parents=True)
    for node_id, made in made_with.items():
        result = NodeResult(node_id=node_id, ok=True, seconds=1, peak_rss_mb=1, made_with=made)
        (home.runs / "r" / f"{node_id}.result.json").write_text(result.model_dump_json(), encoding="utf-8")
    return Run(home, request, spec, folder)


def test_a_model_was_made_with_what_its_nodes_ran_with(tmp_path: Path) -> None:
    """Each once; of the two that train, the one that made this model. Gate and Register made none."""
    run = run_with(
        tmp_path,
        **dict.fromkeys(("ExampleGen", "Schema", "Transform", "Refit"), MADE_WITH),
        **dict.fromkeys(("Trainer", "Gate"), OLDER),
    )
    assert run.made_with(refit=True) == (MADE_WITH,)
    assert run.made_with(refit=False) == (MADE_WITH, OLDER)


def test_an_upgrade_within_the_run_leaves_both_on_record(tmp_path: Path) -> None:
    """What the node ran with that trained is last, also when a node before it was run again after the upgrade."""
    run = run_with(tmp_path, ExampleGen=OLDER, Schema=MADE_WITH, Transform=OLDER, Trainer=MADE_WITH)
    assert run.made_with(refit=False) == (OLDER, MADE_WITH)


def test_nodes_that_ran_before_an_upgrade_to_this_ct_say_nothing(tmp_path: Path) -> None:
    """Their results have no such key, and are read."""
    run = run_with(tmp_path, ExampleGen=None, Schema=None, Transform=None, Trainer=None)
    for path in (run.home.runs / "r").iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace(',"made_with":null', ""), encoding="utf-8")
        assert "made_with" not in path.read_text(encoding="utf-8")
    assert run.made_with(refit=False) == ()
