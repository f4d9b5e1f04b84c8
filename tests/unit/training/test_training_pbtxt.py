"""Edits of a text protobuf that leave the rest as it was."""

from __future__ import annotations

import pytest

from ct.training import pbtxt

TEXT = """# What a span holds { "not a block" }
feature {
  name: "kind"  # a comment with a } brace
  string_domain {
    value: "a"   value: 'b'
    value: "c \\" } {"
  }
}
feature { name: "size" float_domain { min: -1.5 max: 2e3 } presence: { min_fraction: 1 } }
feature { name: "list" string_domain { value: ["x", "y"] } }
string_domain { name: "shared" }
"""


def test_blocks_are_found_past_comments_and_strings() -> None:
    """Braces in comments and strings are no braces."""
    root = pbtxt.parse(TEXT)
    assert [block.name for block in root.blocks] == ["feature", "feature", "feature", "string_domain"]
    kind = root.block("feature", "kind")
    assert kind
    domain = kind.block("string_domain")
    assert domain
    assert [field.value for field in domain.fields] == ['"a"', "'b'", '"c \\" } {"']
    assert TEXT[domain.end] == "}"


def test_numbers_and_lists_are_fields() -> None:
    """Signs, exponents and lists of values."""
    root = pbtxt.parse(TEXT)
    size, listed = root.block("feature", "size"), root.block("feature", "list")
    assert size
    assert listed
    domain, values = size.block("float_domain"), listed.block("string_domain")
    assert domain
    assert values
    assert [(field.name, field.value) for field in domain.fields] == [("min", "-1.5"), ("max", "2e3")]
    assert [field.value for field in values.fields] == ['"x"', '"y"']


def test_fields_are_added_a_line_each_where_the_block_has_lines() -> None:
    """With the indentation of the block's last field."""
    kind = pbtxt.parse(TEXT).block("feature", "kind")
    assert kind
    domain = kind.block("string_domain")
    assert domain
    edited = pbtxt.with_fields(TEXT, domain, ['value: "d"', 'value: "e"'])
    added = '    value: "c \\" } {"\n    value: "d"\n    value: "e"\n  }\n'
    assert edited == TEXT.replace('    value: "c \\" } {"\n  }\n', added)


def test_fields_are_added_in_the_line_of_a_block_of_one_line() -> None:
    """An empty block too."""
    root = pbtxt.parse(TEXT)
    shared = root.block("string_domain", "shared")
    assert shared
    assert pbtxt.with_fields(TEXT, shared, ['value: "z"']) == TEXT.replace(
        '{ name: "shared" }', '{ name: "shared" value: "z" }'
    )
    empty = "a { shape { } }"
    assert pbtxt.with_fields(empty, pbtxt.parse(empty).blocks[0].blocks[0], ["dim: 1"]) == "a { shape { dim: 1 } }"


def test_brace_that_closes_on_a_line_with_fields_moves_down() -> None:
    """The added fields stand before it."""
    text = 'domain {\n  value: "a"\n  value: "b" }'
    edited = pbtxt.with_fields(text, pbtxt.parse(text).blocks[0], ['value: "c"'])
    assert edited == 'domain {\n  value: "a"\n  value: "b"\n  value: "c" }'


def test_value_is_replaced_alone() -> None:
    """Everything around it stays."""
    size = pbtxt.parse(TEXT).block("feature", "size")
    assert size
    domain = size.block("float_domain")
    assert domain
    found = domain.field("max")
    assert found
    assert pbtxt.with_value(TEXT, found, "3000") == TEXT.replace("2e3", "3000")


@pytest.mark.parametrize("text", ["feature {", "feature { } }", 'name: "open'])
def test_text_that_is_no_protobuf_is_refused(text: str) -> None:
    """Braces must pair and strings must end."""
    with pytest.raises(ValueError, match=r"brace|belongs to no"):
        pbtxt.parse(text)
