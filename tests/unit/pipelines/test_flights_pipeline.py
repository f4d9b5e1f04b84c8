"""pipelines/flights as a whole: its files agree with each other and with the sampled data."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import pipelines.flights
from ct.config import PipelineConfig, load_pipeline_config
from ct.sources.flights_sample import COLUMNS, FEATURES, LATE_MINUTES

FOLDER = Path(pipelines.flights.__file__).parent
FORBIDDEN = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "day", "month", "year", "flight", "tailnum"}
"""Known only afterwards, or teaching only accidents."""
SCHEMA_TYPES = {"string": "BYTES", "int64": "INT", "float32": "FLOAT"}


@pytest.fixture(scope="module")
def config() -> PipelineConfig:
    """Its pipeline.yaml."""
    return load_pipeline_config(FOLDER)


@pytest.fixture(scope="module")
def schema() -> dict[str, str]:
    """Column -> its block in schema.pbtxt. Read as text: this plane has no TensorFlow metadata."""
    blocks = (FOLDER / "schema.pbtxt").read_text().split("\nfeature {")[1:]
    return {re.findall(r'name: "(\w+)"', block)[0]: block for block in blocks}


def constant(name: str) -> tuple[str, ...]:
    """A tuple of names in features.py, which cannot be imported without TensorFlow."""
    tree = ast.parse((FOLDER / "features.py").read_text())
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    found: list[str] = []
    assert isinstance(values[name], ast.Tuple)
    for element in values[name].elts:
        found += constant(element.value.id) if isinstance(element, ast.Starred) else [ast.literal_eval(element)]
    return tuple(found)


def test_pipeline_yaml_is_valid_and_named_as_its_folder(config: PipelineConfig) -> None:
    """The package that Transform and Trainer import has the pipeline's name."""
    assert config.name == FOLDER.name
    assert config.refit
    assert config.trigger.on_data
    assert config.trigger.schedule is not None


def test_the_schema_asks_for_exactly_the_columns_that_are_sampled(schema: dict[str, str]) -> None:
    """In the same types; a value in every row."""
    assert tuple(schema) == COLUMNS
    types = {"time_hour": "string", **FEATURES, "arr_late": "int64"}
    for name, block in schema.items():
        assert f"type: {SCHEMA_TYPES[types[name]]}" in block, name
        assert "presence { min_fraction: 1 min_count: 1 }" in block, name
        assert "shape { }" in block, name


def test_pipeline_yaml_names_columns_that_exist(config: PipelineConfig, schema: dict[str, str]) -> None:
    """The label, the time and the slices."""
    assert config.label == constant_label() == "arr_late"
    assert {config.label, config.window.time_column, *config.evaluate.slices} <= set(schema)


def constant_label() -> str:
    """LABEL of features.py."""
    found = re.search(r'^LABEL = "(\w+)"', (FOLDER / "features.py").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_model_sees_only_what_is_known_an_hour_before(schema: dict[str, str]) -> None:
    """Clients send every sampled feature, never the time that only orders rows, the label, or what happens later."""
    raw = constant("RAW_FEATURES")
    assert sorted(raw) == sorted(FEATURES)
    assert not FORBIDDEN & {*raw, *schema}
    read = set(re.findall(r'inputs\["(\w+)"\]', (FOLDER / "features.py").read_text()))
    assert read <= set(raw)


def test_new_destinations_and_carriers_are_normal(schema: dict[str, str]) -> None:
    """They come in most months; an origin outside New York is an error."""
    assert "domain" not in schema["dest"]
    assert "domain" not in schema["carrier"]
    assert "string_domain" in schema["origin"]


def test_the_readme_explains_every_column_and_the_label(schema: dict[str, str]) -> None:
    """It is the DAG's page in Airflow."""
    readme = (FOLDER / "README.md").read_text()
    assert [name for name in schema if f"`{name}`" not in readme] == []
    assert f"more than {LATE_MINUTES} minutes" in readme
