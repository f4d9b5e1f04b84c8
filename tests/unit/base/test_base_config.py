"""pipeline.yaml and settings: what is wrong is named, and what is right is frozen."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ct.config import PIPELINE_FILES, load_pipeline_config, parse_pipeline_config
from ct.errors import ConfigError
from ct.home import Home
from ct.settings import Settings

FLIGHTS = Path(__file__).resolve().parents[3] / "pipelines" / "flights"
LEAST: dict[str, Any] = {
    "name": "trips",
    "description": "d",
    "owner": "o",
    "label": "late",
    "window": {"time_column": "t"},
    "gate": {"threshold": 0.6},
}


def test_the_least_pipeline_is_valid() -> None:
    """Six keys make a pipeline; everything else has a default."""
    config = parse_pipeline_config(LEAST, where="pipeline.yaml")
    assert config.node("Trainer").retries == 2
    assert config.trigger.on_data


@pytest.mark.parametrize(
    ("metric", "check"),
    [
        ({"class_name": "MeanSquaredError"}, {"metric": "mse", "at_most": 0.2}),
        ({"class_name": "MeanSquaredError", "better": "lower"}, {"metric": "mse", "min_improvement": 0}),
        ({"class_name": "MeanSquaredError"}, {"metric": "log_loss", "min_improvement": 0}),
    ],
    ids=["a bound", "said", "one of the gate's own"],
)
def test_which_value_is_better_is_asked_where_it_matters(metric: dict[str, Any], check: dict[str, Any]) -> None:
    """Not for a bound of the value itself, nor for the gate's own metrics."""
    changes = {"evaluate": {"metrics": [{"name": "mse", **metric}]}, "gate": {"threshold": 0.6, "checks": [check]}}
    assert parse_pipeline_config({**LEAST, **changes}, where="pipeline.yaml").gate.checks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"treshold": 1}, "treshold: unknown key"),
        ({"serve": {}}, "serve: unknown key; did you mean `serving`?"),
        ({"gate": {"threshold": 0.6, "metrics": "auc"}}, "gate.metrics: unknown key; did you mean `metric`?"),
        ({"gate": {}}, "gate.threshold: required, and missing"),
        ({"gate": {"threshold": "high"}}, "gate.threshold: "),
        ({"gate": {"threshold": 0.6, "metric": "auk"}}, "gate.metric: unknown `auk`; did you mean `auc`?"),
        ({"gate": {"threshold": 0.6, "metric": "calibration"}}, "gate.metric: unknown `calibration`; "),
        (
            {"gate": {"threshold": 0.6, "checks": [{"metric": "log_los", "at_most": 1}]}},
            "gate.checks: unknown `log_los`; did you mean `log_loss`?",
        ),
        (
            {
                "gate": {"threshold": 0.6, "checks": [{"metric": "recal", "at_least": 0.1}]},
                "evaluate": {"metrics": [{"name": "recall", "class_name": "Recall"}]},
            },
            "gate.checks: unknown `recal`; did you mean `recall`?",
        ),
        (
            {"evaluate": {"metrics": [{"name": "auc", "class_name": "AUC"}]}},
            "evaluate.metrics: auc: each name once, and none of the gate's own",
        ),
        (
            {
                "gate": {"threshold": 0.6, "fairness": [{"feature": "carier", "max_gap": 0.1}]},
                "evaluate": {"slices": ["carrier"]},
            },
            "gate.fairness.feature: unknown `carier`; did you mean `carrier`?",
        ),
        (
            {
                "gate": {"threshold": 0.6, "checks": [{"metric": "mse", "min_improvement": 0}]},
                "evaluate": {"metrics": [{"name": "mse", "class_name": "MeanSquaredError"}]},
            },
            "nothing says which of two values is better; write `better: higher` or `better: lower` beside `class_name`",
        ),
        ({"gate": {"threshold": 0.6, "checks": [{"metric": "auc"}]}}, "gate.checks.0: checks nothing"),
        ({"gate": {"threshold": 0.6, "inconclusive": "hope"}}, "gate.inconclusive: "),
        ({"gate": {"threshold": float("nan")}}, "gate.threshold: "),
        ({"gate": {"threshold": 0}}, "gate: threshold 0 decides nothing: auc lies between 0 and 1"),
        ({"gate": {"threshold": 1.0, "metric": "brier"}}, "gate: threshold 1 decides nothing: brier lies"),
        ({"gate": {"threshold": -1.0, "metric": "log_loss"}}, "gate: threshold -1 refuses everything"),
        ({"gate": {"threshold": 0.6, "min_improvement": -1}}, "gate: min_improvement -1 decides nothing"),
        (
            {"gate": {"threshold": 0.6, "checks": [{"metric": "calibration", "at_least": 1.1, "at_most": 0.9}]}},
            "gate.checks.0: no value is at least 1.1 and at most 0.9",
        ),
        (
            {"gate": {"threshold": 0.6, "checks": [{"metric": "auc", "at_least": 0.5, "relative": True}]}},
            "gate.checks.0: `relative` is of `min_improvement`",
        ),
        ({"gate": {"threshold": 0.6, "slices": {"max_drop": 0.01}}}, "gate.slices: there are none"),
        (
            {"gate": {"threshold": 0.6, "inconclusive": "wait"}, "window": {"time_column": "t", "max_spans": 3}},
            "gate.wait_spans: 3 spans to judge on leave none of window.max_spans: 3",
        ),
        ({"name": "My Pipeline"}, "name: must be lower-case letters"),
        ({"nodes": {"Traner": {}}}, "nodes.Traner: unknown node; did you mean `Trainer`?"),
        ({"nodes": {"Trainer": {"retry": 1}}}, "nodes.Trainer.retry: unknown key; did you mean `retries`?"),
        ({"trigger": {"schedule": "every friday"}}, "trigger.schedule: must be a cron expression of five fields"),
        ({"trigger": {"on_data": False}}, "nothing would ever start a run"),
        ({"source": {"pattern": "*.json"}}, "source.pattern: must end in .parquet, .csv, .tfrecord"),
        ({"window": {"time_column": "t", "max_spans": 1}}, "window.max_spans: "),
        ({"seed": -1}, "seed: "),
    ],
)
def test_a_wrong_key_or_value_is_named(change: dict[str, Any], message: str) -> None:
    """One line a problem: where it is, what is wrong, the nearest right key; exit code 2."""
    with pytest.raises(ConfigError) as refused:
        parse_pipeline_config({**LEAST, **change}, where="pipeline.yaml")
    assert message in str(refused.value)
    assert "Nothing was deployed" in str(refused.value)
    assert refused.value.exit_code == 2


def test_every_problem_is_told_at_once() -> None:
    """Nobody has to fix one key to hear of the next."""
    with pytest.raises(ConfigError) as refused:
        parse_pipeline_config({"name": "Trips"}, where="pipeline.yaml")
    assert len(refused.value.facts["problems"]) == 6


def test_a_config_cannot_be_changed() -> None:
    """What was deployed is what runs."""
    config = parse_pipeline_config(LEAST, where="pipeline.yaml")
    with pytest.raises(ValidationError):
        config.seed = 2  # type: ignore[misc]


@pytest.mark.parametrize("name", PIPELINE_FILES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    """Each file of a pipeline is required."""
    folder = tmp_path / "flights"
    shutil.copytree(FLIGHTS, folder)
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=f"lacks {name}"):
        load_pipeline_config(folder)


@pytest.mark.parametrize("text", ["name: [", "- a\n- b\n", "just text", ""])
def test_yaml_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    """A broken or empty file is one clear message."""
    folder = tmp_path / "flights"
    shutil.copytree(FLIGHTS, folder)
    (folder / "pipeline.yaml").write_text(text)
    with pytest.raises(ConfigError, match="Nothing was deployed"):
        load_pipeline_config(folder)


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    """And what was saved is there for the next shell."""
    home = Home(tmp_path / "home").create()
    Settings.load(home, {"CT_SERVING_PORT": "9000"}).save(home)
    assert Settings.load(home, {}).serving_port == 9000
    assert Settings.load(home, {"CT_SERVING_PORT": "9001"}).serving_port == 9001
    assert Settings.load(home, {}).mlflow_port == 5000


@pytest.mark.parametrize("port", ["many", "0", "70000"])
def test_a_wrong_setting_is_named(tmp_path: Path, port: str) -> None:
    """The key and the value stand in the message."""
    home = Home(tmp_path / "home").create()
    with pytest.raises(ConfigError, match=f"serving_port: .*{port}"):
        Settings.load(home, {"CT_SERVING_PORT": port})


def test_an_own_mlflow_is_one_setting(tmp_path: Path) -> None:
    """The URL replaces the server that `ct up` would start."""
    home = Home(tmp_path / "home").create()
    settings = Settings.load(home, {"CT_MLFLOW_URL": "http://mlflow.example:80"})
    assert settings.mlflow_base_url == "http://mlflow.example:80"
