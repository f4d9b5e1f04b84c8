"""Whole runs of the tiny pipeline: real TFX nodes, real ML Metadata, real model store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ml_metadata.proto import metadata_store_pb2
from sklearn.metrics import roc_auc_score
from tiny_run import UP_TO_GATE, Run, in_fork, write_span

from ct.contracts import Outcome
from ct.training.metadata import open_store
from ct.training.preload import tf

if TYPE_CHECKING:
    from collections.abc import Callable


def test_first_span_is_split_by_time(first_run: Run) -> None:
    """Of an only span the last days are held out, and the verdict says so."""
    assert first_run.result("ExampleGen").facts == {"rows": {"train": 240, "eval": 60}, "quarantined": 0}
    assert first_run.verdict().holdout
    assert first_run.verdict().rows == 60


def test_first_candidate_is_judged_without_a_champion(first_run: Run) -> None:
    """With nothing serving, only the threshold counts."""
    verdict = first_run.verdict()
    assert verdict.outcome is Outcome.APPROVED
    assert verdict.champion_version is None
    assert [(check.metric, check.baseline, check.blocking) for check in verdict.checks] == [
        ("auc", None, True),
        ("brier", None, False),
    ]
    assert first_run.result("Champion").message == "nothing serves yet"


def test_newest_span_judges_what_older_spans_trained(second_run: Run) -> None:
    """From the second span on, the candidate is judged on a whole span that it has not seen."""
    assert second_run.result("ExampleGen").facts["rows"] == {"train": 300, "eval": 300}
    assert second_run.verdict().span == "2013-02"
    assert not second_run.verdict().holdout


def test_candidate_and_champion_are_measured_on_the_same_rows(second_run: Run) -> None:
    """The verdict's two numbers are what both models score on the newest span, computed here once more without TFMA."""
    verdict = second_run.verdict()
    check = next(check for check in verdict.checks if check.baseline is not None and check.slice == "overall")
    candidate = second_run.output("Trainer", "model") / "Format-Serving"
    champion = second_run.home.models / "tiny" / "versions" / "1" / "saved_model"
    rows = second_run.output("ExampleGen", "examples") / "Split-eval"
    assert verdict.champion_version == 1
    assert check.value == pytest.approx(in_fork(_auc, candidate, rows), abs=0.005)
    assert check.baseline == pytest.approx(in_fork(_auc, champion, rows), abs=0.005)


def test_slices_are_compared_too(second_run: Run) -> None:
    """Each value of a slicing feature has its own line in the verdict, which does not block."""
    slices = {check.slice: check.blocking for check in second_run.verdict().checks if check.slice != "overall"}
    assert slices == {"kind=a": False, "kind=b": False, "kind=c": False}


def test_exported_model_answers_raw_features(first_run: Run) -> None:
    """Both signatures of the refitted model return one probability a row."""
    names, shape = in_fork(_answer, first_run.output("Refit", "model") / "Format-Serving")
    assert names == ["serving_default", "serving_examples"]
    assert shape == (2,)


def test_span_is_encoded_once(first_run: Run, second_run: Run, spans: tuple[Path, Path]) -> None:
    """A span that an earlier run encoded whole is linked, not encoded again."""
    third = second_run.output("ExampleGen", "examples")
    encoded = sorted(path for path in first_run.home.artifacts("tiny").glob("spans/*-all/data_tfrecord-*.gz"))
    linked = sorted((third / "Split-train").iterdir()) + sorted((third / "Split-eval").iterdir())
    assert {path.stat().st_ino for path in encoded} == {path.stat().st_ino for path in linked}
    assert len(encoded) == len(spans)


def test_rerun_leaves_one_live_output(second_run: Run) -> None:
    """A cleared task runs again, and later nodes see exactly its new output."""
    assert second_run.node("Transform", attempt=2).ok
    with open_store(second_run.home.artifacts("tiny") / "metadata.db") as handle:
        (context,) = [
            c for c in handle.store.get_contexts_by_type("pipeline_run") if c.name == second_run.request.run_id
        ]
        kind = handle.store.get_artifact_type("TransformGraph").id
        graphs = [a for a in handle.store.get_artifacts_by_context(context.id) if a.type_id == kind]
    live = [graph for graph in graphs if graph.state == metadata_store_pb2.Artifact.LIVE]
    assert len(graphs) == 2
    assert len(live) == 1
    assert list(Path(live[0].uri).iterdir())
    assert second_run.node("Trainer", attempt=2).ok


def test_node_without_inputs_fails(new_run: Callable[..., Run], spans: tuple[Path, Path]) -> None:
    """TFX returns quietly when an upstream node has no output; here that is a failure that says what to clear."""
    result = new_run("tiny-no-inputs", spans[0]).node("StatisticsGen")
    assert not result.ok
    assert result.error_type == "NodeFailedError"
    assert "Clear the first of its upstream tasks (ExampleGen)" in result.message


def test_data_that_breaks_the_schema_fails_the_run(new_run: Callable[..., Run], tmp_path: Path) -> None:
    """The validator lists what is wrong, no retry is asked for, and clearing the task finds the same."""
    odd = write_span(tmp_path / "2013-03.csv", month=3, kinds="abz")
    run = new_run("tiny-anomaly", odd).through(("ExampleGen", "StatisticsGen", "Schema"))
    result = run.node("ExampleValidator")
    assert not result.ok
    assert result.error_type == "DataAnomalyError"
    assert not result.retryable
    assert any("kind" in line for line in result.facts["anomalies"])
    assert run.node("ExampleValidator", attempt=2).message == result.message


def test_every_span_that_cannot_be_read_is_refused_with_its_reason(new_run: Callable[..., Run], tmp_path: Path) -> None:
    """At once, also behind another one, and for good: the next run goes on with the others."""
    narrow = write_span(tmp_path / "2013-04.csv", month=4, header="time,kind,size")
    good = write_span(tmp_path / "2013-05.csv", month=5)
    empty = tmp_path / "2013-06.csv"
    empty.write_bytes(b"")
    result = new_run("tiny-refused", narrow, good, empty).node("ExampleGen")
    assert not result.ok
    assert result.error_type == "SpanRefusedError"
    assert not result.retryable
    assert result.facts["refused"].keys() == {"2013-04", "2013-06"}
    assert '"late"' in result.facts["refused"]["2013-04"]
    assert "1 others of the window" in result.message


def test_nodes_may_run_at_the_same_time(new_run: Callable[..., Run], spans: tuple[Path, Path]) -> None:
    """Two nodes that Airflow starts together both succeed."""
    run = new_run("tiny-parallel", spans[0]).through(("ExampleGen",))
    pids = {node_id: run.start(node_id) for node_id in ("StatisticsGen", "Schema", "Champion")}
    results = [run.wait(node_id, pid) for node_id, pid in pids.items()]
    assert [result.ok for result in results] == [True, True, True]


def test_every_node_up_to_the_gate_says_how_long_it_took(second_run: Run) -> None:
    """Results carry seconds and memory for the task log."""
    results = [second_run.result(node_id) for node_id in UP_TO_GATE]
    assert all(result.seconds > 0 and result.peak_rss_mb > 100 for result in results)


def _answer(saved_model: Path) -> tuple[list[str], tuple[int, ...]]:
    signatures = tf.saved_model.load(str(saved_model)).signatures
    answer = signatures["serving_default"](kind=tf.constant(["a", "new"]), size=tf.constant([1.0, -1.0]))
    return sorted(name for name in signatures if name.startswith("serving_")), tuple(answer["probability"].shape)


def _auc(saved_model: Path, rows: Path) -> float:
    paths = [str(path) for path in sorted(rows.iterdir())]
    examples = list(tf.data.TFRecordDataset(paths, compression_type="GZIP").as_numpy_iterator())
    labels = [tf.train.Example.FromString(example).features.feature["late"].int64_list.value[0] for example in examples]
    signature = tf.saved_model.load(str(saved_model)).signatures["serving_examples"]
    scores = signature(tf.constant(examples))["probability"].numpy()
    return float(roc_auc_score(np.array(labels), scores))
