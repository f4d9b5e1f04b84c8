"""docs/sources.md: what a user copies from it is valid."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import yaml

from ct.config import parse_pipeline_config
from ct.source_config import SourceBlock

PAGE = (Path(__file__).parents[3] / "docs" / "sources.md").read_text(encoding="utf-8")
EXAMPLES = [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE, re.MULTILINE)]
BLOCKS = [
    part for example in EXAMPLES for part in re.split(r"\n(?=source:)", example) if part.lstrip().startswith("source:")
]


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_is_a_valid_source(block: str) -> None:
    """As it stands there."""
    least = {"name": "trips", "description": "d", "owner": "o", "label": "late", "window": {"time_column": "t"}}
    values = {**least, "gate": {"threshold": 0.6}, **yaml.safe_load(block)}
    assert isinstance(parse_pipeline_config(values, where="docs/sources.md").source, SourceBlock)


def test_every_kind_has_an_example() -> None:
    """Redis is told beside Kafka."""
    kinds = {yaml.safe_load(block)["source"].get("kind", "folder") for block in BLOCKS}
    assert kinds == {"folder", "s3", "postgres", "cassandra", "kafka"}
