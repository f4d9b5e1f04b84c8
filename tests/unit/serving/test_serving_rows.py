"""Rows and layouts: what is equal, what is one key, and that wrong names are told in time however many there are."""

from __future__ import annotations

import difflib
import time
from typing import TYPE_CHECKING, Any

import pytest

from ct.contracts import Feature
from serving.rows import BadRequestError, Layout, from_columns, from_objects, from_table, join, wrong_names

if TYPE_CHECKING:
    from collections.abc import Iterator

FEATURES = (
    Feature(name="b", dtype="float32"),
    Feature(name="a", dtype="float32"),
    Feature(name="n", dtype="int64"),
    Feature(name="s", dtype="string"),
)
LAYOUT = Layout(FEATURES)
ROW = {"a": 1.5, "b": 2, "n": 3, "s": "x"}


def test_layouts_of_the_same_features_are_equal_in_any_order_and_take_each_others_rows() -> None:
    """A canary whose manifest lists the features otherwise answers the same requests."""
    other = Layout(FEATURES[::-1])
    assert other == LAYOUT
    assert hash(other) == hash(LAYOUT)
    both = join([from_objects(layout, [ROW], "instances") for layout in (LAYOUT, other)])
    assert [matrix.tolist() for matrix in both.arrays()] == [[["x"]] * 2, [[1.5, 2]] * 2, [[3]] * 2]
    assert both.columns() == {name: [value] * 2 for name, value in ROW.items()}


@pytest.mark.parametrize("change", [{"dtype": "int64"}, {"name": "c"}])
def test_layouts_of_other_features_differ(change: dict[str, str]) -> None:
    """By a type or a name."""
    assert Layout((FEATURES[0].model_copy(update=change), *FEATURES[1:])) != LAYOUT


def test_a_key_is_the_first_rows_value_as_the_model_gets_it() -> None:
    """Floats as 32 bits have them."""
    rows = from_columns(LAYOUT, {"a": [7, 1], "b": [0.1, 1], "n": [1 << 60, 1], "s": ["UA", "AA"]}, "inputs")
    assert [rows.key(name) for name in ("a", "b", "n", "s")] == [
        "7.0",
        "0.10000000149011612",
        "1152921504606846976",
        "UA",
    ]


@pytest.mark.parametrize("names", [[1, "1"], ["1", 1.0, "1.0"], ["a", "a"]])
def test_columns_whose_names_read_alike_are_refused(names: list[Any]) -> None:
    """However they are written in JSON."""
    with pytest.raises(BadRequestError, match=f'the table has the column "{names[-1]}" more than once'):
        from_table(LAYOUT, names, [[1] * len(names)], "the table")


@pytest.mark.parametrize("name", [None, True, [[1]], {"a": 1}])
def test_a_column_must_be_named_by_a_string(name: Any) -> None:
    """A number will do, as pandas has them."""
    with pytest.raises(BadRequestError, match="the table, column 1 must be named by a string, not"):
        from_table(LAYOUT, ["a", name], [[1, 2]], "the table")


def test_a_double_column_among_thousands_is_found_in_time() -> None:
    """The event loop waits for it; comparing each with each took seconds."""
    names = [f"c{number}" for number in range(20_000)]
    began = time.perf_counter()
    with pytest.raises(BadRequestError, match='"c19999" more than once'):
        from_table(LAYOUT, [*names, "c19999"], [[1] * 20_001], "the table")
    assert time.perf_counter() - began < 1


def test_a_long_name_is_not_compared_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for what was meant takes time in proportion."""
    compared = []

    def remembering(word: str, *_: Any, **__: Any) -> list[str]:
        compared.append(len(word))
        return []

    monkeypatch.setattr(difflib, "get_close_matches", remembering)
    with pytest.raises(BadRequestError, match="unknown feature"):
        from_objects(LAYOUT, [{"x" * 1_000_000: 1}], "instances")
    assert compared == [100]


def test_of_many_unknown_names_the_first_is_told_and_no_more_are_looked_at() -> None:
    """A body may hold a million."""
    looked_at = 0

    class Names(dict[str, Any]):
        def __iter__(self) -> Iterator[str]:
            nonlocal looked_at
            for name in super().__iter__():
                looked_at += 1
                yield name

    given = Names({"a": 1, **{f"u{number}": 1 for number in range(100_000)}})
    assert wrong_names("inputs", given, LAYOUT.names) == 'inputs has the unknown feature "u0"; known: b, n, s'
    assert 0 < looked_at <= len(FEATURES) + 1
