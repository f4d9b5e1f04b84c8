"""schema.pbtxt: which columns a span has, and whether pipeline.yaml and it agree."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from ct.errors import ConfigError
from ct.sources.reader import Column, ColumnType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ct.config import PipelineConfig

LABEL_PRESENCE = "presence { min_fraction: 1 min_count: 1 }"
"""What the label's block in schema.pbtxt must say."""
LABEL_TYPE = "type: INT int_domain { min: 0 max: 1 }"
"""Likewise: 1 for a positive row, 0 for any other."""

_TYPES = {schema_pb2.BYTES: ColumnType.STRING, schema_pb2.INT: ColumnType.INT, schema_pb2.FLOAT: ColumnType.FLOAT}


def read_schema(path: Path) -> schema_pb2.Schema:
    """Read a `schema.pbtxt`.

    Raises:
        ConfigError: it does not parse, or a feature is not BYTES, INT or FLOAT.
    """
    try:
        schema = text_format.Parse(path.read_text(encoding="utf-8"), schema_pb2.Schema())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ConfigError(f"schema.pbtxt does not parse: {error}. Nothing was deployed.", path=str(path)) from error
    untyped = [feature.name for feature in schema.feature if feature.type not in _TYPES]
    if untyped or not schema.feature:
        problem = f"{', '.join(untyped)} must be of type BYTES, INT or FLOAT" if untyped else "it names no feature"
        raise ConfigError(f"schema.pbtxt: {problem}. Nothing was deployed.", path=str(path))
    return schema


def columns_of(schema: schema_pb2.Schema) -> tuple[Column, ...]:
    """The columns that a span must have."""
    return tuple(
        Column(feature.name, _TYPES[feature.type], feature.presence.min_fraction == 1, *_range(feature))
        for feature in schema.feature
    )


def check_columns(config: PipelineConfig, schema: schema_pb2.Schema) -> None:
    """Every column that pipeline.yaml names is in the schema, and each row has the label, 0 or 1.

    Raises:
        ConfigError: a column is not, and the message names the nearest that is; or rows may lack the label or have another.
    """
    known = [feature.name for feature in schema.feature]
    problems = [
        f'{key}: "{column}" is no feature of schema.pbtxt; {_nearest(column, known)}'
        for key, column in _named(config)
        if column not in known
    ]
    if problems:
        lines = ["pipeline.yaml is not valid. Nothing was deployed.", *(f"  - {problem}" for problem in problems)]
        raise ConfigError("\n".join(lines), problems=problems)
    label = next(column for column in columns_of(schema) if column.name == config.label)
    if not label.required:
        raise ConfigError(
            f'schema.pbtxt: rows may lack "{label.name}", the label, and without it a row can be neither learnt from nor '
            f"judged on. Nothing was deployed. Let its block say:\n  {LABEL_PRESENCE}\nThen a row without it is a bad row when "
            "it lands: it is quarantined, and more than `source.max_bad_rows` of them refuse the span.",
            label=label.name,
        )
    if label.type is not ColumnType.INT or (label.minimum, label.maximum) != (0, 1):
        raise ConfigError(
            f'schema.pbtxt: "{label.name}", the label, may be something else than 1 for a positive row and 0 for any other, '
            f"and the gate cannot judge on that. Nothing was deployed. Let its block say:\n  {LABEL_TYPE}\n"
            "Then a row with another label is a bad row when it lands.",
            label=label.name,
        )


def _range(feature: schema_pb2.Feature) -> tuple[float | None, float | None]:
    """The least and the largest value of its int_domain or float_domain; None where it sets none."""
    if feature.WhichOneof("domain_info") not in ("int_domain", "float_domain"):
        return None, None
    domain = getattr(feature, feature.WhichOneof("domain_info"))
    return (domain.min if domain.HasField("min") else None), (domain.max if domain.HasField("max") else None)


def _named(config: PipelineConfig) -> Iterator[tuple[str, str]]:
    yield "label", config.label
    yield "window.time_column", config.window.time_column
    for column in config.evaluate.slices:
        yield "evaluate.slices", column
    for kind, comparison in (("drift", config.validation.drift), ("skew", config.validation.skew)):
        for column in comparison.by_feature:
            yield f"validate.{kind}.by_feature", column


def _nearest(column: str, known: list[str]) -> str:
    near = difflib.get_close_matches(column, known, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else f"features: {', '.join(known)}"
