"""`ct data` and `ct schema` over a home with runs and statistics; what needs the training plane is asked by a stand-in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ct.cli import training_plane
from ct.cli.found import looked_at_path, newest_found
from ct.cli.main import cli
from ct.cli.schema import choose
from ct.cli.span_page import gather
from ct.config import parse_pipeline_config
from ct.contracts import DeployedSpec, NodeResult, RunRequest, Span, TriggerKind
from ct.errors import ConfigError
from ct.home import Home
from ct.training.findings import Finding, FindingKind, LookedAt, Validation
from ct.training.summary import (
    SCHEMA_HASH_CHARACTERS,
    Bucket,
    FeatureSummary,
    Numbers,
    SpanSummary,
    statistics_path,
)
from ct.triggers.ledger import Ledger
from ct.triggers.records import Arrival, RunRecord, RunStatus, SpanRecord, SpanState

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2013, 6, 1, tzinfo=timezone.utc)
SCHEMA = 'feature { name: "kind" type: BYTES string_domain { value: "a" } }\n'
NEW = Finding(
    kind=FindingKind.SCHEMA,
    action="block",
    split="eval",
    feature="kind",
    type="ENUM_TYPE_UNEXPECTED_STRING_VALUES",
    message="new values: z",
    new_values=("z",),
)
DRIFT = Finding(
    kind=FindingKind.DRIFT, action="warn", split="eval", feature="size", type="COMPARATOR_L_INFTY_HIGH", message="far"
)


@dataclass
class Records:
    """The ledger's answers."""

    span_records: list[SpanRecord] = field(default_factory=list)
    run_records: list[RunRecord] = field(default_factory=list)

    def spans(self, pipeline: str) -> Sequence[SpanRecord]:
        """The newest revision of each."""
        return self.span_records

    def runs(self, pipeline: str, limit: int) -> Sequence[RunRecord]:
        """Newest first."""
        return self.run_records

    def events(self, pipeline: str, limit: int) -> Sequence[Any]:
        """There are none here."""
        return ()


def span(number: int) -> Span:
    """The span of a month."""
    return Span(
        pipeline="trips",
        name=f"2013-0{number}",
        revision=1,
        sha256=f"{number}" * 64,
        uri=f"/data/2013-0{number}.csv",
        format="csv",
        size_bytes=2048,
        seen_at=NOW,
    )


def record(number: int, state: SpanState = SpanState.TRAINED, run_id: str | None = None) -> SpanRecord:
    """Where the span stands."""
    return SpanRecord(span=span(number), state=state, reason="", run_id=run_id)


def run(run_id: str, *numbers: int) -> RunRecord:
    """A run that was approved."""
    return RunRecord(
        run_id=run_id,
        pipeline="trips",
        trigger=TriggerKind.DATA,
        status=RunStatus.APPROVED,
        spans=(f"2013-0{numbers[-1]}",),
        window=tuple(f"2013-0{number}" for number in numbers),
        requested_at=NOW,
        started_at=NOW,
        finished_at=NOW,
        message="it is better",
        version=3,
        airflow_dag_id="trips",
        airflow_run_id="a",
        mlflow_run_id=None,
    )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with a deployed pipeline that was never compiled."""
    home = Home(tmp_path / "home").create()
    config = parse_pipeline_config(
        {
            "name": "trips",
            "description": "",
            "owner": "o",
            "label": "late",
            "window": {"time_column": "time"},
            "gate": {"threshold": 0.6},
        },
        where="here",
    )
    spec = DeployedSpec(
        spec_hash="s1",
        pipeline="trips",
        config=config.model_dump(mode="json"),
        nodes=(),
        readme="",
        deployed_at=NOW,
        code_commit=None,
        requirement_hashes={},
    )
    folder = home.deployed / "trips" / "specs" / "s1"
    (folder / "code" / "trips").mkdir(parents=True)
    (folder / "code" / "trips" / "schema.pbtxt").write_text(SCHEMA, encoding="utf-8")
    (folder / "spec.json").write_text(spec.model_dump_json(), encoding="utf-8")
    (home.deployed / "trips" / "current.json").write_text(json.dumps({"spec_hash": "s1"}), encoding="utf-8")
    return home


def keep_summary(home: Home, number: int, rate: float) -> None:
    """Statistics that a run has kept: ten rows a number of the month."""
    late = Numbers(
        min=0, median=0, max=1, mean=rate, std=0.4, zeros=8, histogram=(Bucket(low=0, high=1, count=10 * number),)
    )
    feature = FeatureSummary(name="late", type="int64", present=10 * number, missing=0, numbers=late)
    schema_hash = hashlib.sha256(SCHEMA.encode()).hexdigest()[:SCHEMA_HASH_CHARACTERS]
    path = statistics_path(home, "trips", span(number).sha256, schema_hash).with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SpanSummary(rows=10 * number, features=(feature,)).model_dump_json(), encoding="utf-8")


def validated(home: Home, run_id: str, *numbers: int, findings: tuple[Finding, ...] = ()) -> None:
    """What the validator of a run left."""
    request = RunRequest(
        run_id=run_id,
        pipeline="trips",
        spec_hash="s1",
        trigger=TriggerKind.DATA,
        requested_at=NOW,
        spans=tuple(span(number) for number in numbers),
        new_spans=(),
        seed=1,
        airflow_dag_id="trips",
        airflow_run_id="a",
        mlflow_run_id=None,
    )
    path = home.request_path(run_id)
    path.parent.mkdir(parents=True)
    path.write_text(request.model_dump_json(), encoding="utf-8")
    facts = Validation(against="2013-01", findings=findings).model_dump(mode="json")
    result = NodeResult(node_id="ExampleValidator", ok=True, seconds=1, peak_rss_mb=1, facts=facts)
    path.with_name("ExampleValidator.result.json").write_text(result.model_dump_json(), encoding="utf-8")


class Plane:
    """A stand-in for the training plane."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, module: str, request: dict[str, Any], home: Home) -> dict[str, Any]:
        """Answer by the module's last name."""
        self.asked.append((module, request))
        return self.answers[module.rpartition(".")[2]]


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Plane:
    """Nothing that is asked starts a process."""
    plane = Plane()
    monkeypatch.setattr(training_plane, "ask_training_plane", plane)
    monkeypatch.setattr("ct.cli.span_page.ask_training_plane", plane)
    return plane


def test_page_of_a_span_that_a_run_has_seen_asks_nobody(home: Home, plane: Plane) -> None:
    """Statistics and findings are read from what the run left."""
    for number, rate in ((1, 0.2), (2, 0.3)):
        keep_summary(home, number, rate)
    validated(home, "trips-2", 1, 2, findings=(NEW,))
    records = Records([record(1), record(2, run_id="trips-2")], [run("trips-2", 1, 2)])
    page = gather(home, records, "trips", None, now=NOW)  # type: ignore[arg-type]  it answers what is asked of a ledger
    assert plane.asked == []
    assert (page.span, page.before_name) == ("2013-02", "2013-01")
    assert page.summary
    assert page.summary.rows == 20
    assert page.label_rates == [("2013-01", 0.2), ("2013-02", 0.3)]
    assert page.validation
    assert page.validation.findings == (NEW,)
    assert "run trips-2" in page.validated_by
    assert [(used.run_id, used.role, used.version) for used in page.used_by] == [("trips-2", "judged on", 3)]


def test_span_that_no_run_has_seen_is_looked_at_once(home: Home, plane: Plane) -> None:
    """The second time the answer is known; when the spec or the log changes it is asked again."""
    plane.answers["describe"] = {"problems": {}, "validation": Validation(findings=(NEW,)).model_dump(mode="json")}
    keep_summary(home, 2, 0.3)
    keep_summary(home, 1, 0.2)
    records = Records([record(1), record(2, SpanState.WAITING)])
    for _ in range(2):
        page = gather(home, records, "trips", "2013-02", now=NOW)  # type: ignore[arg-type]
        assert page.validation
        assert page.validation.findings == (NEW,)
    assert [request["span"]["name"] for _, request in plane.asked] == ["2013-02"]
    (found,) = newest_found(home, records, "trips")  # type: ignore[arg-type]
    assert (found.by, found.findings) == ("ct data trips 2013-02", (NEW,))
    log = home.predictions("trips") / "2013-06-01" / "1.parquet"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"more")
    gather(home, records, "trips", "2013-02", now=NOW)  # type: ignore[arg-type]
    assert len(plane.asked) == 2


def test_refused_span_shows_its_bad_rows(home: Home, plane: Plane) -> None:
    """Where each is, and why, though there are no statistics; a refused span is nothing to compare with."""
    plane.answers["describe"] = {"problems": {"2013-03": "line 2: bad"}, "validation": None}
    keep_summary(home, 1, 0.2)
    quarantine = home.quarantine("trips") / "2013-03.jsonl"
    quarantine.parent.mkdir(parents=True)
    lines = [
        {"line": 2, "column": "late", "reason": "bad", "raw": "x" * 300},
        {"row": 5, "column": None, "reason": "cut", "raw": ""},
    ]
    quarantine.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    records = Records([record(1), record(2, SpanState.REFUSED), record(3, SpanState.REFUSED)])
    page = gather(home, records, "trips", None, now=NOW)  # type: ignore[arg-type]
    assert (page.summary, page.problem, page.before_name) == (None, "line 2: bad", "2013-01")
    assert [(row.place, row.column, row.reason) for row in page.quarantined] == [
        ("line 2", "late", "bad"),
        ("row 5", "", "cut"),
    ]
    assert page.quarantined[0].raw == "x" * 200 + "..."


@pytest.mark.parametrize(("name", "message"), [("2013-09", "did you mean `2013-0"), ("zzz", "newest: 2013-01")])
def test_unknown_span_names_the_nearest(home: Home, name: str, message: str) -> None:
    """A typo is told, and which spans there are."""
    with pytest.raises(ConfigError, match=message):
        gather(home, Records([record(1)]), "trips", name, now=NOW)  # type: ignore[arg-type]


def test_pipeline_without_spans_says_so(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the command, with the real ledger."""
    monkeypatch.setenv("CT_HOME", str(home.root))
    result = CliRunner().invoke(cli, ["data", "trips", "--no-open"])
    assert isinstance(result.exception, ConfigError)
    assert "No span of trips has landed yet" in result.exception.message


def test_page_is_written_where_it_was_asked_for(
    home: Home, plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the command and the real ledger; no browser is opened."""
    monkeypatch.setenv("CT_HOME", str(home.root))
    monkeypatch.setattr("webbrowser.open", lambda _: pytest.fail("it was told not to"))
    plane.answers["describe"] = {"problems": {}, "validation": Validation(findings=(NEW,)).model_dump(mode="json")}
    keep_summary(home, 1, 0.2)
    landed = span(1)
    arrival = Arrival(
        name=landed.name,
        source_uri="file:///data/2013-01.csv",
        uri=landed.uri,
        format="csv",
        sha256=landed.sha256,
        size_bytes=2048,
        fingerprint="1",
    )
    Ledger.open(home).record_landing("trips", arrival)
    out = tmp_path / "page.html"
    command = ["data", "trips", "--no-open", "--out", str(out), "--json"]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    told = json.loads(result.stdout)
    assert (told["span"], told["rows"], told["page"]) == ("2013-01", 10, str(out))
    page = out.read_text(encoding="utf-8")
    assert f"ct schema trips accept {NEW.id}" in page
    assert "file:///data/2013-01.csv" in page


def test_findings_are_of_the_newest_run_that_found_any(home: Home) -> None:
    """A later run without findings does not hide them; one that never validated neither."""
    validated(home, "trips-1", 1, findings=(NEW, NEW.model_copy(update={"split": "train"}), DRIFT))
    validated(home, "trips-2", 1, 2)
    records = Records(run_records=[run("trips-3", 3), run("trips-2", 1, 2), run("trips-1", 1)])
    (found,) = newest_found(home, records, "trips")  # type: ignore[arg-type]
    assert found.by == "run trips-1"
    assert {finding.id for finding in found.findings} == {NEW.id, DRIFT.id}
    assert len(found.findings) == 2


def test_what_a_run_found_too_is_listed_once(home: Home) -> None:
    """The run's line is enough; what only `ct data` has found is added."""
    validated(home, "trips-1", 1, findings=(NEW,))
    looked = LookedAt(key="k", span="2013-02", validation=Validation(findings=(NEW, DRIFT)))
    looked_at_path(home, "trips").parent.mkdir(parents=True)
    looked_at_path(home, "trips").write_text(looked.model_dump_json(), encoding="utf-8")
    places = newest_found(home, Records(run_records=[run("trips-1", 1)]), "trips")  # type: ignore[arg-type]
    assert [(place.by, place.findings) for place in places] == [
        ("run trips-1", (NEW,)),
        ("ct data trips 2013-02", (DRIFT,)),
    ]


def test_anomaly_is_chosen_by_id_or_feature(home: Home) -> None:
    """By feature only while that is one; an unknown one lists what there is."""
    validated(home, "trips-1", 1, findings=(NEW, DRIFT))
    found = newest_found(home, Records(run_records=[run("trips-1", 1)]), "trips")  # type: ignore[arg-type]
    assert choose(found, "kind", "trips") == choose(found, NEW.id, "trips")
    assert choose(found, "size", "trips") == DRIFT
    with pytest.raises(ConfigError, match=rf"found: {NEW.id} \(kind\), {DRIFT.id} \(size\)"):
        choose(found, "other", "trips")


def test_accept_edits_the_folder_and_shows_the_difference(
    home: Home, plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run shows the same and changes nothing; then the file is changed and the next command is told."""
    monkeypatch.setenv("CT_HOME", str(home.root))
    plane.answers["schema_edit"] = {"text": SCHEMA.replace('"a"', '"a" value: "z"')}
    looked = {"key": "k", "span": "2013-01", "validation": Validation(findings=(NEW,)).model_dump(mode="json")}
    path = home.artifacts("trips") / "statistics" / "looked-at.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(looked), encoding="utf-8")
    folder = tmp_path / "trips"
    folder.mkdir()
    for name in ("features.py", "model.py", "README.md"):
        (folder / name).touch()
    (folder / "schema.pbtxt").write_text(SCHEMA, encoding="utf-8")
    spec = "{name: trips, description: d, owner: o, label: late, window: {time_column: t}, gate: {threshold: 0.6}}"
    (folder / "pipeline.yaml").write_text(spec, encoding="utf-8")
    command = ["schema", "trips", "accept", "kind", "--pipeline-dir", str(folder)]
    dry = CliRunner().invoke(cli, [*command, "--dry-run"], catch_exceptions=False)
    assert '+feature { name: "kind" type: BYTES string_domain { value: "a" value: "z" } }' in dry.stdout
    assert (folder / "schema.pbtxt").read_text(encoding="utf-8") == SCHEMA
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.stdout == dry.stdout
    assert f"`ct deploy {folder}`" in done.stderr
    assert 'value: "z"' in (folder / "schema.pbtxt").read_text(encoding="utf-8")


def test_folder_of_another_pipeline_is_not_edited(
    home: Home, plane: Plane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither is one that is not there; the message names the option."""
    monkeypatch.setenv("CT_HOME", str(home.root))
    monkeypatch.chdir(tmp_path)
    looked = {"key": "k", "span": "2013-01", "validation": Validation(findings=(NEW,)).model_dump(mode="json")}
    path = home.artifacts("trips") / "statistics" / "looked-at.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(looked), encoding="utf-8")
    result = CliRunner().invoke(cli, ["schema", "trips", "accept", "kind"])
    assert isinstance(result.exception, ConfigError)
    assert "--pipeline-dir" in result.exception.message
    flights = Path(__file__).resolve().parents[3] / "pipelines" / "flights"
    result = CliRunner().invoke(cli, ["schema", "trips", "accept", "kind", "--pipeline-dir", str(flights)])
    assert isinstance(result.exception, ConfigError)
    assert "is the pipeline flights, not trips" in result.exception.message
    assert plane.asked == []
