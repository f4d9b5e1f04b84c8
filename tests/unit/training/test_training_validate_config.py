"""The block `validate:` of pipeline.yaml."""

from __future__ import annotations

from typing import Any

import pytest

from ct.config import PipelineConfig, parse_pipeline_config
from ct.errors import ConfigError

LEAST = {
    "name": "trips",
    "description": "d",
    "owner": "o",
    "label": "late",
    "window": {"time_column": "time"},
    "gate": {"threshold": 0.6},
}


def test_schema_blocks_and_the_rest_warns_unless_told_otherwise() -> None:
    """The defaults: bad data never trains, data that changed does."""
    validation = parse_pipeline_config(LEAST, where="here").validation
    assert validation.anomalies.action == "block"
    assert (validation.drift.action, validation.skew.action) == ("warn", "warn")
    assert validation.skew.min_rows == 1000


def test_deployed_config_reads_back_as_it_was() -> None:
    """A spec keeps the block under its name in YAML."""
    values = {**LEAST, "validate": {"drift": {"by_feature": {"size": 0.5}}}}
    config = parse_pipeline_config(values, where="here")
    dumped = config.model_dump(mode="json")
    assert dumped["validate"]["drift"]["by_feature"] == {"size": 0.5}
    assert PipelineConfig.model_validate(dumped) == config


@pytest.mark.parametrize(
    ("validate", "message"),
    [
        ({"drfit": {}}, "validate.drfit: unknown key; did you mean `drift`?"),
        ({"drift": {"acton": "warn"}}, "validate.drift.acton: unknown key; did you mean `action`?"),
        ({"skew": {"action": "stop"}}, "validate.skew.action: Input should be 'block', 'warn' or 'ignore'"),
        ({"drift": {"by_feature": {"size": 1.5}}}, "validate.drift.by_feature.size: "),
        ({"anomalies": {"by_type": {"X": "stop"}}}, "validate.anomalies.by_type.X: "),
    ],
)
def test_wrong_key_or_value_is_named(validate: dict[str, Any], message: str) -> None:
    """With the place in the file and the nearest right key."""
    with pytest.raises(ConfigError) as raised:
        parse_pipeline_config({**LEAST, "validate": validate}, where="here")
    assert message in raised.value.message
