"""Accepting a finding: the edit of schema.pbtxt, with real protobufs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from ct.errors import ConfigError
from ct.training.findings import Finding, FindingKind
from ct.training.schema_edit import accepting, describe

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """# Destinations come and go.
feature {
  name: "dest"
  type: BYTES
  presence { min_fraction: 0.9 min_count: 1 }
  string_domain {  # as of January
    value: "ATL"  # Atlanta
    value: "BOS"
  }
}
feature { name: "via" type: BYTES domain: "airports" }
feature { name: "minute" type: INT int_domain { min: 0 max: 1439 } }
feature { name: "temp" type: FLOAT float_domain { min: -10 max: 100 } }
feature { name: "free" type: BYTES }
feature { name: "label" type: INT presence { min_fraction: 0.9 } }
string_domain { name: "airports" value: "JFK" }
"""


def finding(feature: str, kind: str, **values: Any) -> Finding:
    """A finding of the schema that blocks."""
    return Finding(
        kind=FindingKind.SCHEMA, action="block", split="eval", feature=feature, type=kind, message="", **values
    )


NEW_VALUES = "ENUM_TYPE_UNEXPECTED_STRING_VALUES"


@pytest.mark.parametrize(
    ("accepted", "before", "after"),
    [
        (
            finding("dest", NEW_VALUES, new_values=("BGR", 'a "quoted" \\ one')),
            '    value: "BOS"\n',
            '    value: "BOS"\n    value: "BGR"\n    value: "a \\"quoted\\" \\\\ one"\n',
        ),
        (finding("via", NEW_VALUES, new_values=("BGR",)), 'value: "JFK" }', 'value: "JFK" value: "BGR" }'),
        (finding("dest", NEW_VALUES, new_values=("Zürich",)), '"BOS"\n', '"BOS"\n    value: "Zürich"\n'),
        (finding("minute", "INT_TYPE_BIG_INT", low=3, high=1440), "max: 1439", "max: 1440"),
        (finding("minute", "INT_TYPE_SMALL_INT", low=-5, high=9), "{ min: 0", "{ min: -5"),
        (finding("temp", "FLOAT_TYPE_BIG_FLOAT", low=0, high=100.0999984741211), "max: 100 ", "max: 100.099998 "),
        (finding("temp", "FLOAT_TYPE_SMALL_FLOAT", low=-10.5, high=9), "min: -10", "min: -10.5"),
        (finding("dest", "FEATURE_TYPE_LOW_FRACTION_PRESENT", present=0.87659), "0.9", "0.8765"),
    ],
)
def test_accepting_changes_what_was_found_and_nothing_else(accepted: Finding, before: str, after: str) -> None:
    """Comments, order and layout stay, and the text parses."""
    edited = accepting(TEXT, accepted, label="late")
    assert edited == TEXT.replace(before, after, 1)
    text_format.Parse(edited, schema_pb2.Schema())


def test_what_transform_would_refuse_is_not_accepted() -> None:
    """A dense feature with missing values: the next run would fail after the data was accepted."""
    text = 'feature { name: "dense" type: BYTES presence { min_fraction: 1 } shape { } }'
    with pytest.raises(ConfigError, match="Write `value_count"):
        accepting(text, finding("dense", "FEATURE_TYPE_LOW_FRACTION_PRESENT", present=0.5), label="late")


@pytest.mark.parametrize(
    ("refused", "advice"),
    [
        (finding("dest", "SCHEMA_MISSING_COLUMN"), "take its `feature` block out"),
        (finding("other", "SCHEMA_NEW_COLUMN"), "a new column needs a `feature` block"),
        (finding("dest", "ENUM_TYPE_INVALID_UTF8"), "by hand"),
        (finding("other", NEW_VALUES, new_values=("x",)), 'no feature "other"'),
        (finding("dest", NEW_VALUES, new_values=("ATL",)), "allows ATL already"),
        (finding("free", NEW_VALUES, new_values=("x",)), "allows x already"),
        (finding("label", "FEATURE_TYPE_LOW_FRACTION_PRESENT", present=0.5), "correct the data and land it again"),
        (finding("label", "LABEL_MISSING", present=0.5), "correct the data and land it again"),
        (finding("free", "FEATURE_TYPE_LOW_FRACTION_PRESENT", present=0.5), "sets no `min_fraction`"),
        (
            finding("temp", "COMPARATOR_L_INFTY_HIGH").model_copy(update={"kind": FindingKind.DRIFT}),
            "raise `validate.drift.by_feature.temp` in pipeline.yaml",
        ),
    ],
)
def test_what_no_edit_answers_is_refused_with_advice(refused: Finding, advice: str) -> None:
    """Nothing is changed, and the message says what to do instead."""
    with pytest.raises(ConfigError, match="Nothing was changed") as raised:
        accepting(TEXT, refused, label="label")
    assert advice in raised.value.message


def test_schema_is_described_in_words() -> None:
    """A row a feature."""
    schema = text_format.Parse(TEXT, schema_pb2.Schema())
    assert [(row["name"], row["type"], row["values"]) for row in describe(schema)] == [
        ("dest", "string", "ATL, BOS"),
        ("via", "string", "JFK"),
        ("minute", "int64", "0 to 1439"),
        ("temp", "float32", "-10 to 100"),
        ("free", "string", "any"),
        ("label", "int64", "any"),
    ]


def test_question_and_answer_are_files(tmp_path: Path) -> None:
    """As the control plane asks: an answer, or an error with its facts."""
    schema = tmp_path / "schema.pbtxt"
    schema.write_text(TEXT, encoding="utf-8")

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        asked, answered = tmp_path / "request.json", tmp_path / "answer.json"
        asked.write_text(json.dumps({"schema": str(schema), "label": "label", **request}), encoding="utf-8")
        command = [sys.executable, "-m", "ct.training.schema_edit", str(asked), str(answered)]
        subprocess.run(command, check=True, capture_output=True)
        answer: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
        return answer

    assert [row["name"] for row in ask({})["features"]] == ["dest", "via", "minute", "temp", "free", "label"]
    accepted = finding("dest", NEW_VALUES, new_values=("BGR",))
    assert '    value: "BGR"\n' in ask({"accept": accepted.model_dump(mode="json")})["text"]
    error = ask({"accept": finding("dest", "SCHEMA_MISSING_COLUMN").model_dump(mode="json")})
    assert "Nothing was changed" in error["error"]
    assert schema.read_text(encoding="utf-8") == TEXT
