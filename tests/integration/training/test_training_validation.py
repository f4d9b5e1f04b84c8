"""Findings and what they do: in whole runs, and one comparison at a time with real TFDV."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_run import TINY, Run, make_run, write_span

from ct.airflow.closing import ending_of
from ct.config import PipelineConfig, load_pipeline_config
from ct.deploy import deploy, spec_dir_of
from ct.errors import ConfigError
from ct.home import Home
from ct.training.checks import Checks, check_anomaly_types
from ct.training.findings import LABEL_MISSING, FindingKind, Validation
from ct.training.register import warnings_of
from ct.training.schema import read_schema
from ct.training.statistics import as_lists, statistics_of
from ct.triggers.records import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ct.contracts import DeployedSpec


def config_with(**validate: Any) -> PipelineConfig:
    """The tiny pipeline with a `validate:` block."""
    values = load_pipeline_config(TINY).model_dump(mode="json")
    return PipelineConfig.model_validate({**values, "validate": validate})


def rows(*, kinds: str = "abc", shift: float = 0.0, late: float = 0.3, count: int = 2000, seed: int = 1) -> pa.Table:
    """Rows as the tiny pipeline's schema asks for."""
    numbers = np.random.default_rng(seed)
    return pa.table(
        {
            "time": [f"2013-01-01T00:{minute % 60:02}:00" for minute in range(count)],
            "kind": numbers.choice(list(kinds), count),
            "size": (numbers.normal(size=count) + shift).astype("float32"),
            "late": (numbers.random(count) < late).astype("int64"),
        }
    )


def statistics(table: pa.Table) -> Any:
    """TFDV's statistics of a table."""
    return statistics_of(map(as_lists, table.to_batches()))


def checks(config: PipelineConfig, folder: Path) -> Checks:
    """Checks against the tiny pipeline's schema."""
    return Checks(config, read_schema(TINY / "schema.pbtxt"), folder)


def write_log(folder: Path, table: pa.Table, variant: str = "champion") -> None:
    """Logged requests as serving writes them; a label is not in a request."""
    path = folder / "2013-06-01" / f"120000Z-{variant}-1.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    count = table.num_rows
    logged = table.drop_columns(["time", "late"])
    logged = logged.append_column("ct_variant", pa.array([variant] * count).dictionary_encode())
    at = pa.array([datetime(2013, 6, 1, tzinfo=timezone.utc)] * count, pa.timestamp("us", "UTC"))
    pq.write_table(logged.append_column("ct_at", at), path)


def test_newest_span_is_compared_with_the_one_before(second_run: Run) -> None:
    """Without any finding the node says so, and every distance is on record; time drifts by nature and is left out."""
    result = second_run.result("ExampleValidator")
    assert result.message == "the data agrees with the schema and does not drift from 2013-01"
    assert result.facts["against"] == "2013-01"
    assert result.facts["drift"].keys() == {"kind", "size", "late"}
    assert all(0 <= value <= 0.3 for value in result.facts["drift"].values())
    assert (result.facts["findings"], result.facts["warnings"], result.facts["logged_rows"]) == ([], [], 0)


def test_findings_stand_with_tfdvs_anomalies(second_run: Run) -> None:
    """What Register logs in MLflow holds both."""
    written = (second_run.home.artifacts("tiny") / "ExampleValidator" / "anomalies").glob("*/findings.json")
    read = {path.parent: Validation.model_validate_json(path.read_text(encoding="utf-8")) for path in written}
    (folder,) = [folder for folder, validation in read.items() if validation.against == "2013-01"]
    names = {str(path.relative_to(folder)) for path in folder.rglob("*.pb")}
    assert names == {"Split-train/SchemaDiff.pb", "Split-eval/SchemaDiff.pb", "drift.pb"}


def test_warnings_reach_mlflow_with_the_run(tmp_path: Path) -> None:
    """As a tag that a person sees in a list of runs; what blocks never gets there."""
    found = checks(config_with(drift={"by_feature": {"late": 0.001}}), tmp_path)
    found.drifted(statistics(rows(shift=3.0, late=0.4)), statistics(rows(seed=2)), against="before")
    (tmp_path / "findings.json").write_text(found.validation().model_dump_json(), encoding="utf-8")
    told = warnings_of(str(tmp_path))
    assert told.startswith("eval: late: Jensen-Shannon divergence 0.0")
    assert "; eval: size: Jensen-Shannon divergence" in told


def test_statistics_of_both_spans_are_kept(second_run: Run) -> None:
    """The next run's drift and `ct data` need not compute them again."""
    hashes = {path.name.split("-")[0] for path in second_run.home.artifacts("tiny").glob("statistics/*.json")}
    assert {span.sha256 for span in second_run.request.spans} <= hashes


def test_first_span_drifts_from_nothing(first_run: Run) -> None:
    """There is no span before it."""
    facts = first_run.result("ExampleValidator").facts
    assert (facts["against"], facts["drift"]) == (None, {})


def test_drift_is_a_warning_and_the_run_goes_on(
    new_run: Callable[..., Run], spans: tuple[Path, Path], tmp_path: Path
) -> None:
    """A span of one kind only: the node succeeds, and says what drifted from what."""
    odd = write_span(tmp_path / "2013-05.csv", month=5, kinds="a")
    run = new_run("tiny-drift", *spans, odd).through(("ExampleGen", "StatisticsGen", "Schema"))
    result = run.node("ExampleValidator")
    assert result.ok, result.message
    (finding,) = Validation.model_validate({name: result.facts[name] for name in Validation.model_fields}).warnings
    assert (finding.kind, finding.feature, finding.split) == (FindingKind.DRIFT, "kind", "eval")
    assert finding.message.startswith("L-infinity distance 0.6")
    assert 'from span 2013-02, above 0.1; the share of "a" changed most' in finding.message
    assert result.message.startswith("1 warning: eval: kind: ")


def test_blocked_finding_names_the_command_that_accepts_it(new_run: Callable[..., Run], tmp_path: Path) -> None:
    """The error says what to do; the finding is in the facts with the values that are new."""
    odd = write_span(tmp_path / "2013-06.csv", month=6, kinds="abz")
    run = new_run("tiny-accept", odd).through(("ExampleGen", "StatisticsGen", "Schema"))
    result = run.node("ExampleValidator")
    findings = Validation.model_validate({name: result.facts[name] for name in Validation.model_fields}).blocking
    assert {finding.split for finding in findings} == {"train", "eval"}
    assert {finding.new_values for finding in findings} == {("z",)}
    assert f"`ct schema tiny accept {findings[0].id}`" in result.message
    assert result.facts["anomalies"] == [finding.line for finding in findings]


@pytest.fixture(scope="module")
def optional_label(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, DeployedSpec]:
    """A spec whose schema wants a label in half of the rows, as could be deployed once, and whose runs ignore anomalies."""
    folder = tmp_path_factory.mktemp("optional")
    pipeline = shutil.copytree(TINY, folder / "tiny")
    with (pipeline / "pipeline.yaml").open("a", encoding="utf-8") as file:
        file.write("validate: {anomalies: {action: ignore}}\n")
    home = Home(folder / "home").create()
    spec = deploy(pipeline, home, on_line=print).spec
    stored = spec_dir_of(home, "tiny", spec.spec_hash) / "code" / "tiny" / "schema.pbtxt"
    *others, label = stored.read_text(encoding="utf-8").splitlines()
    optional = label.replace("min_fraction: 1 ", "min_fraction: 0.5 ").replace(
        "shape { }", "value_count { min: 1 max: 1 }"
    )
    stored.write_text("\n".join([*others, optional]), encoding="utf-8")
    return home, spec


@pytest.mark.parametrize(
    ("newest", "missing", "split", "told", "refused"),
    [
        ("2013-02", 2, "eval", "2 of 300", ["2013-02"]),
        ("2013-02", 300, "eval", "300 of 300", ["2013-02"]),
        ("2013-01", 2, "train", "2 of 300", []),
    ],
    ids=["two rows to judge on", "all of them", "two rows of an older span"],
)
def test_rows_without_a_label_end_the_run_before_training(
    optional_label: tuple[Home, DeployedSpec],
    tmp_path: Path,
    newest: str,
    missing: int,
    split: str,
    told: str,
    refused: list[str],
) -> None:
    """Whatever schema and settings allow: the run is skipped, no try helps, and the span that brought them is refused."""
    spans = [write_span(tmp_path / f"2013-0{month}.csv", month=month) for month in (1, 2)]
    holey = tmp_path / f"{newest}.csv"
    header, *lines = holey.read_text(encoding="utf-8").splitlines()
    holey.write_text(
        "\n".join([header, *(line[:-1] for line in lines[:missing]), *lines[missing:], ""]), encoding="utf-8"
    )
    run = make_run(*optional_label, f"unlabelled-{split}-{missing}", *spans)
    result = run.through(("ExampleGen", "StatisticsGen", "Schema")).node("ExampleValidator")
    assert (result.ok, result.error_type, result.retryable) == (False, "DataAnomalyError", False)
    line = f"{split}: late: {told} rows have no label, and can be neither learnt from nor judged on"
    assert result.facts["anomalies"] == [line]
    assert "say `presence { min_fraction: 1 min_count: 1 }`" in result.message
    ending = ending_of(run.request, {"ExampleValidator": result}, ("ExampleValidator",))
    assert (ending.status, list(ending.refused)) == (RunStatus.SKIPPED, refused)


def test_fewer_labels_than_the_schema_asks_for_are_one_finding_that_no_edit_accepts(tmp_path: Path) -> None:
    """TFDV's own of the label would be accepted by a lower `min_fraction`; that of any other column stays."""
    table = rows(count=10)
    holes = pa.array([True] + [False] * 9)
    for name in ("late", "size"):
        values = pa.array(np.ma.masked_array(table[name].to_numpy(), mask=holes))
        table = table.set_column(table.schema.get_field_index(name), name, values)
    found = checks(config_with(), tmp_path)
    for feature in found.schema.feature:
        feature.ClearField("shape")
    found.keeps_schema("eval", statistics(table))
    assert {(finding.feature, finding.type, finding.acceptable) for finding in found.findings} == {
        ("late", LABEL_MISSING, False),
        ("size", "FEATURE_TYPE_LOW_FRACTION_PRESENT", True),
    }


def test_action_by_type_comes_before_the_action_of_all(tmp_path: Path) -> None:
    """New values only warn, other anomalies still block, and what is ignored is not found at all."""
    config = config_with(anomalies={"by_type": {"ENUM_TYPE_UNEXPECTED_STRING_VALUES": "warn"}})
    found = checks(config, tmp_path)
    odd = rows(kinds="abz").set_column(3, "late", pa.array([7] * 2000))
    found.keeps_schema("eval", statistics(odd))
    assert {(finding.feature, finding.action) for finding in found.findings} == {("kind", "warn"), ("late", "block")}
    (late,) = found.validation().blocking
    assert (late.type, late.low, late.high, late.present) == ("INT_TYPE_BIG_INT", 7, 7, 1)
    silent = checks(config_with(anomalies={"action": "ignore"}), tmp_path)
    silent.keeps_schema("eval", statistics(odd))
    assert silent.findings == []


@pytest.mark.parametrize(
    ("drift", "expected"),
    [
        ({}, {("size", "warn")}),
        ({"action": "block"}, {("size", "block")}),
        ({"action": "ignore"}, set()),
        ({"by_feature": {"size": 1.0}}, set()),
        ({"by_feature": {"late": 0.001}}, {("size", "warn"), ("late", "warn")}),
        ({"numeric": 1.0, "categorical": 0.001}, {("kind", "warn")}),
    ],
)
def test_thresholds_decide_what_drifted(tmp_path: Path, drift: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    """Defaults by the kind of feature, a feature's own threshold, and the action; distances are measured in any case."""
    found = checks(config_with(drift=drift), tmp_path)
    found.drifted(statistics(rows(shift=3.0, late=0.4)), statistics(rows(seed=2)), against="before")
    assert {(finding.feature, finding.action) for finding in found.findings} == expected
    assert found.drifts["size"] == pytest.approx(0.7, abs=0.15)
    assert found.drifts["kind"] < 0.05
    assert found.against == "before"


def test_comparator_in_the_schema_counts_before_the_defaults(tmp_path: Path) -> None:
    """schema.pbtxt may say it itself."""
    found = checks(config_with(), tmp_path)
    size = next(feature for feature in found.schema.feature if feature.name == "size")
    size.drift_comparator.jensen_shannon_divergence.threshold = 0.99
    found.drifted(statistics(rows(shift=3.0)), statistics(rows(seed=2)), against="before")
    assert found.findings == []


def test_skew_from_what_serving_logged_is_a_warning(tmp_path: Path) -> None:
    """Only what requests carry is compared, and a shadow's rows, which are the champion's again, do not count."""
    write_log(tmp_path / "log", rows(shift=3.0, seed=3))
    write_log(tmp_path / "log", rows(shift=9.0, seed=4, count=700), variant="shadow")
    found = checks(config_with(), tmp_path)
    found.skewed(statistics(rows()), tmp_path / "log")
    assert found.logged == 2000
    assert found.skews.keys() == {"kind", "size"}
    (finding,) = found.findings
    assert (finding.kind, finding.feature, finding.action) == (FindingKind.SKEW, "size", "warn")
    assert "from the 2,000 rows that serving logged, above 0.3" in finding.message


def test_few_logged_rows_are_not_compared(tmp_path: Path) -> None:
    """Chance would speak; how many there are is on record."""
    write_log(tmp_path / "log", rows(shift=3.0, count=999))
    found = checks(config_with(), tmp_path)
    found.skewed(statistics(rows()), tmp_path / "log")
    assert (found.logged, found.skews, found.findings) == (999, {}, [])
    found.skewed(statistics(rows()), tmp_path / "no log yet")
    assert (found.logged, found.skews) == (0, {})


def test_type_that_tfdv_does_not_know_is_refused() -> None:
    """A typo must not turn a check off."""
    check_anomaly_types(config_with(anomalies={"by_type": {"SCHEMA_NEW_COLUMN": "warn"}}))
    with pytest.raises(ConfigError, match="SCHEMA_NEW_COLUM is no type"):
        check_anomaly_types(config_with(anomalies={"by_type": {"SCHEMA_NEW_COLUM": "warn"}}))


def test_validation_survives_json() -> None:
    """What stands in facts comes back as it was."""
    validation = Validation(against="2013-01", drift={"size": 0.25}, logged_rows=3)
    assert Validation.model_validate(json.loads(validation.model_dump_json())) == validation
