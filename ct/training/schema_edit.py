"""`python -m ct.training.schema_edit`: what schema.pbtxt says, and the edit of it that accepts a finding."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from ct.errors import ConfigError
from ct.training import pbtxt
from ct.training.answering import answer
from ct.training.findings import LABEL_MISSING, LOW_PRESENCE, Finding, FindingKind
from ct.training.schema import columns_of, read_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LABELLED = "a row without a label can be neither learnt from nor judged on; correct the data and land it again"
ADVICE = {
    "SCHEMA_NEW_COLUMN": "a new column needs a `feature` block of its own, and features.py to make use of it",
    LABEL_MISSING: LABELLED,
    "SCHEMA_MISSING_COLUMN": "take its `feature` block out, and its name out of features.py",
}
BY_HAND = "edit schema.pbtxt by hand, as TFDV's message says"
DENSE = (
    "Transform takes a feature with `shape { }` only with a value in each row. Write `value_count { min: 1 max: 1 }` in its "
    "place, lower `min_fraction`, and let features.py take a sparse tensor"
)
UNKNOWN_LAYOUT = "schema.pbtxt is laid out in a way that ct cannot edit; edit it by hand"
SHARE_DIGITS = 1e4
VALUES_SHOWN = 10


def describe(schema: schema_pb2.Schema) -> list[dict[str, Any]]:
    """A row a feature: `name`, `type`, `required` and `values`, what it may hold, in words."""
    return [
        {
            "name": feature.name,
            "type": column.type.value,
            "required": column.required,
            "values": _values(feature, schema),
        }
        for feature, column in zip(schema.feature, columns_of(schema), strict=True)
    ]


def accepting(text: str, finding: Finding, *, label: str) -> str:
    """The text of a schema.pbtxt in which the finding is none.

    Comments, order and layout stay. The edited text is parsed, and must differ from the given one in exactly what was meant.

    Args:
        text: what the file holds.
        finding: what to accept.
        label: the column that no row may lack.

    Raises:
        ConfigError: no edit of the schema answers this finding, or the text is laid out in a way that cannot be edited.
    """
    if (finding.feature, finding.type) == (label, LOW_PRESENCE):
        raise _refusal(finding, LABELLED)
    edit = _EDITS.get(finding.type) if finding.kind is FindingKind.SCHEMA else None
    if edit is None:
        raise _refusal(finding, _advice(finding))
    schema = text_format.Parse(text, schema_pb2.Schema())
    feature = next((each for each in schema.feature if each.name == finding.feature), None)
    try:
        block = pbtxt.parse(text).block("feature", finding.feature)
    except ValueError as error:
        raise _refusal(finding, f"{UNKNOWN_LAYOUT} ({error})") from error
    if feature is None or block is None:
        raise _refusal(finding, f'schema.pbtxt has no feature "{finding.feature}"; is it the pipeline that ran?')
    edited = edit(text, block, feature, schema, finding)
    if text_format.Parse(edited, schema_pb2.Schema()) != schema:
        raise _refusal(finding, UNKNOWN_LAYOUT)
    return edited


def _new_values(
    text: str, block: pbtxt.Block, feature: schema_pb2.Feature, schema: schema_pb2.Schema, finding: Finding
) -> str:
    own = next((each for each in schema.string_domain if feature.domain and each.name == feature.domain), None)
    domain = own or feature.string_domain
    new = [value for value in finding.new_values if value not in domain.value]
    place = pbtxt.parse(text).block("string_domain", feature.domain) if own else block.block("string_domain")
    if place is None or not new:
        raise _refusal(finding, f"schema.pbtxt allows {', '.join(finding.new_values) or 'any value'} already")
    domain.value.extend(new)
    return pbtxt.with_fields(text, place, [f"value: {json.dumps(value, ensure_ascii=False)}" for value in new])


def _bound(side: str) -> Callable[..., str]:
    """An edit that moves the `min` or `max` of a feature's domain to what the data holds."""

    def edit(
        text: str, block: pbtxt.Block, feature: schema_pb2.Feature, _schema: schema_pb2.Schema, finding: Finding
    ) -> str:
        seen = finding.low if side == "min" else finding.high
        kind = "int_domain" if feature.type == schema_pb2.INT else "float_domain"
        place = block.block(kind)
        found = place.field(side) if place else None
        if seen is None or found is None:
            raise _refusal(finding, f"schema.pbtxt sets no `{side}` for it; {BY_HAND}")
        # Nine digits tell any two 32-bit floats apart.
        value = str(int(seen)) if kind == "int_domain" else f"{seen:.9g}"
        setattr(getattr(feature, kind), side, float(value) if kind == "float_domain" else int(value))
        return pbtxt.with_value(text, found, value)

    return edit


def _less_present(
    text: str, block: pbtxt.Block, feature: schema_pb2.Feature, _schema: schema_pb2.Schema, finding: Finding
) -> str:
    presence = block.block("presence")
    found = presence.field("min_fraction") if presence else None
    if found is None or finding.present is None:
        raise _refusal(finding, f"schema.pbtxt sets no `min_fraction` for it; {BY_HAND}")
    if feature.HasField("shape"):
        raise _refusal(finding, DENSE)
    feature.presence.min_fraction = math.floor(finding.present * SHARE_DIGITS) / SHARE_DIGITS
    return pbtxt.with_value(text, found, f"{feature.presence.min_fraction:g}")


_EDITS: dict[str, Callable[..., str]] = {
    "ENUM_TYPE_UNEXPECTED_STRING_VALUES": _new_values,
    "INT_TYPE_BIG_INT": _bound("max"),
    "FLOAT_TYPE_BIG_FLOAT": _bound("max"),
    "INT_TYPE_SMALL_INT": _bound("min"),
    "FLOAT_TYPE_SMALL_FLOAT": _bound("min"),
    LOW_PRESENCE: _less_present,
}


def _advice(finding: Finding) -> str:
    if finding.kind is FindingKind.SCHEMA:
        return ADVICE.get(finding.type, BY_HAND)
    where = f"validate.{finding.kind.value}.by_feature.{finding.feature}"
    return f"it is no matter of the schema; raise `{where}` in pipeline.yaml if the change is to be expected"


def _refusal(finding: Finding, advice: str) -> ConfigError:
    return ConfigError(
        f'Cannot accept {finding.id}, {finding.type} of "{finding.feature}": {advice}. Nothing was changed.',
        finding=finding.id,
    )


def _values(feature: schema_pb2.Feature, schema: schema_pb2.Schema) -> str:
    if feature.domain:
        named = [domain for domain in schema.string_domain if domain.name == feature.domain]
        return _listed(named[0].value) if named else feature.domain
    if feature.HasField("string_domain"):
        return _listed(feature.string_domain.value)
    for kind in ("int_domain", "float_domain"):
        if feature.HasField(kind):
            domain = getattr(feature, kind)
            low, high = (f"{getattr(domain, side):g}" if domain.HasField(side) else "" for side in ("min", "max"))
            return f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}"
    return "any"


def _listed(values: Sequence[str]) -> str:
    shown = ", ".join(values[:VALUES_SHOWN])
    return f"{shown}, ... ({len(values)} in all)" if len(values) > VALUES_SHOWN else shown


def _asked(request: dict[str, Any]) -> dict[str, Any]:
    path = Path(request["schema"])
    schema = read_schema(path)
    if "accept" not in request:
        return {"features": describe(schema)}
    finding = Finding.model_validate(request["accept"])
    return {"text": accepting(path.read_text(encoding="utf-8"), finding, label=request["label"])}


if __name__ == "__main__":
    sys.exit(answer(_asked))
