"""Rows of raw features, typed and checked: what every protocol decodes to and what a batch is made of.

A wrong value is told exactly: which row, which feature, what was expected, what came.
"""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass, field
from math import isfinite
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ct.contracts import Feature

SIGNATURE, OUTPUT = "serving_default", "probability"
"""What a SavedModel is asked by: the signature that takes raw features, and its one output."""
FLOAT32_MAX = 3.4028234663852886e38
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
SHOWN_CHARACTERS = 40
COMPARED_CHARACTERS = 100
"""Of a name whose nearest is looked for, which takes time in proportion."""
WANTED = {"string": "a string", "float32": "a finite number of 32 bits", "int64": "a whole number of 64 bits"}

_STRING_TYPES = frozenset({str})
_FLOAT_TYPES = frozenset({float, int})
"""Types are compared exactly: a bool is an int to Python, and no number to us."""
_INT_TYPES = frozenset({int})
_NAME_TYPES = frozenset({str, int, float})
"""Of a column, as pandas writes them."""

Values = tuple[Any, ...]


class BadRequestError(Exception):
    """A request that cannot be answered as it is; the message names the feature, the row and what was expected."""


class TooLargeError(Exception):
    """A request that is larger than a limit; the message names the limit."""


@dataclass(frozen=True)
class Layout:
    """How a model's raw features lie in a batch: one matrix a type, columns in the order of the names.

    Features are sorted by name, so that models with the same features have equal layouts, and take each other's rows.
    """

    features: tuple[Feature, ...]
    names: frozenset[str] = field(init=False)
    strings: tuple[str, ...] = field(init=False)
    floats: tuple[str, ...] = field(init=False)
    ints: tuple[str, ...] = field(init=False)
    pick_strings: Callable[[Mapping[str, Any]], Values] = field(init=False, compare=False, repr=False)
    pick_floats: Callable[[Mapping[str, Any]], Values] = field(init=False, compare=False, repr=False)
    pick_ints: Callable[[Mapping[str, Any]], Values] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "features", tuple(sorted(self.features, key=lambda feature: feature.name)))
        put(self, "names", frozenset(feature.name for feature in self.features))
        for attribute, dtype in (("strings", "string"), ("floats", "float32"), ("ints", "int64")):
            names = tuple(feature.name for feature in self.features if feature.dtype == dtype)
            put(self, attribute, names)
            put(self, f"pick_{attribute}", _picker(names))

    def groups(self) -> tuple[tuple[tuple[str, ...], str], ...]:
        """The features' names a type, in the order in which Rows.arrays gives the matrices; a group may be empty."""
        return (self.strings, "string"), (self.floats, "float32"), (self.ints, "int64")


@dataclass(frozen=True)
class Rows:
    """Checked rows of one request, or of a batch of them: a tuple of values a row and type, as the layout orders them."""

    layout: Layout
    count: int
    strings: list[Values]
    floats: list[Values]
    ints: list[Values]

    def __len__(self) -> int:
        return self.count

    def arrays(self) -> tuple[np.ndarray[Any, Any], ...]:
        """The matrices that the layout has: strings (object), floats (float32), ints (int64), each (rows, features)."""
        made = []
        if self.layout.strings:
            made.append(np.array(self.strings, dtype=object))
        if self.layout.floats:
            made.append(np.array(self.floats, dtype=np.float32))
        if self.layout.ints:
            made.append(np.array(self.ints, dtype=np.int64))
        return tuple(made)

    def first(self, count: int) -> Rows:
        """The first rows only."""
        return Rows(self.layout, min(count, self.count), self.strings[:count], self.floats[:count], self.ints[:count])

    def key(self, name: str) -> str:
        """The first row's value of a feature as text, the same for the same number however it was written or sent."""
        layout = self.layout
        if name in layout.strings:
            text: str = self.strings[0][layout.strings.index(name)]
            return text
        if name in layout.ints:
            return str(self.ints[0][layout.ints.index(name)])
        # As the model gets it; adding zero makes one of 0.0 and -0.0, which are equal.
        return repr(float(np.float32(self.floats[0][layout.floats.index(name)])) + 0.0)

    def columns(self) -> dict[str, list[Any]]:
        """Feature -> its values, in the order of the model's features."""
        found = {
            **_transposed(self.layout.strings, self.strings),
            **_transposed(self.layout.floats, self.floats),
            **_transposed(self.layout.ints, self.ints),
        }
        return {feature.name: found[feature.name] for feature in self.layout.features}


def join(parts: Sequence[Rows]) -> Rows:
    """Rows of several requests as one batch, in their order."""
    if len(parts) == 1:
        return parts[0]
    strings: list[Values] = []
    floats: list[Values] = []
    ints: list[Values] = []
    for part in parts:
        strings += part.strings
        floats += part.floats
        ints += part.ints
    return Rows(parts[0].layout, sum(part.count for part in parts), strings, floats, ints)


def from_objects(layout: Layout, objects: Sequence[Any], where: str) -> Rows:
    """Rows that are objects with exactly the features.

    Args:
        layout: the model's.
        objects: one a row.
        where: what the request calls the list, for messages: `instances` gives `instances[3]`.

    Raises:
        BadRequestError: naming the row and the feature.
    """
    strings: list[Values] = []
    floats: list[Values] = []
    ints: list[Values] = []
    names, pick_strings, pick_floats, pick_ints = (
        layout.names,
        layout.pick_strings,
        layout.pick_floats,
        layout.pick_ints,
    )
    for number, row in enumerate(objects):
        if type(row) is not dict or row.keys() != names:
            raise BadRequestError(_wrong_row(f"{where}[{number}]", row, names))
        strings.append(pick_strings(row))
        floats.append(pick_floats(row))
        ints.append(pick_ints(row))
        if not (_are_strings(strings[-1]) and _are_floats(floats[-1]) and _are_ints(ints[-1])):
            values = {name: [row[name]] for name in names}
            raise BadRequestError(_wrong_value(layout, values, where + "[{}]", first=number))
    return Rows(layout, len(objects), strings, floats, ints)


def from_columns(layout: Layout, columns: Mapping[str, Any], where: str) -> Rows:
    """A list of values a feature, all of one length.

    Raises:
        BadRequestError: naming the feature and, for a value, the row.
    """
    if columns.keys() != layout.names:
        raise BadRequestError(wrong_names(where, columns.keys(), layout.names))
    for name, values in columns.items():
        if type(values) is not list or not values:
            raise BadRequestError(f'{where}["{name}"] must be a list with at least one value, not {kind(values)}')
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shortest, longest = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        raise BadRequestError(
            f'{where} must be of one length: "{shortest}" has {lengths[shortest]} values, "{longest}" has {lengths[longest]}'
        )
    fits = (
        all(_are_strings(columns[name]) for name in layout.strings)
        and all(_are_floats(columns[name]) for name in layout.floats)
        and all(_are_ints(columns[name]) for name in layout.ints)
    )
    if not fits:
        raise BadRequestError(_wrong_value(layout, columns, where + ", row {}"))
    count = next(iter(lengths.values()))
    parts = ([columns[name] for name in names] for names in (layout.strings, layout.floats, layout.ints))
    return Rows(layout, count, *(list(zip(*part, strict=True)) if part else [()] * count for part in parts))


def from_table(layout: Layout, names: Sequence[Any], data: Sequence[Any], where: str) -> Rows:
    """Column names and a list of values a row.

    Raises:
        BadRequestError: a name is wrong or double, a row is of another width, or a value does not fit.
    """
    for number, name in enumerate(names):
        if type(name) not in _NAME_TYPES:
            raise BadRequestError(f"{where}, column {number} must be named by a string, not {kind(name)}")
    counted = Counter(map(str, names))
    if len(counted) != len(names):
        ((double, _),) = counted.most_common(1)
        raise BadRequestError(f'{where} has the column "{short(double)}" more than once')
    for number, values in enumerate(data):
        if type(values) is not list or len(values) != len(names):
            got = f"{len(values)} values" if type(values) is list else kind(values)
            raise BadRequestError(f"{where}, row {number} must be a list with {len(names)} values, not {got}")
    columns = dict(zip(counted, map(list, zip(*data, strict=True)), strict=True))
    return from_columns(layout, columns, where)


def wrong_names(where: str, given: Collection[str], known: Collection[str]) -> str:
    """What to say when the features of a request are not the model's.

    Args:
        where: what the request calls them.
        given: the request's names; quick to look into, however many there are.
        known: the model's.
    """
    missing = sorted(name for name in known if name not in given)
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        return f'{where} has the unknown feature "{short(unknown)}"{nearest(unknown, missing or sorted(known))}'
    return f"{where} lacks " + ", ".join(f'"{name}"' for name in missing)


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint at what was meant."""
    near = difflib.get_close_matches(name[:COMPARED_CHARACTERS], known, n=1, cutoff=0.5)
    return f'; did you mean "{near[0]}"?' if near else f"; known: {', '.join(known)}"


def kind(value: Any) -> str:
    """What a JSON value is, for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'the string "{short(value)}"'
    if isinstance(value, int | float):
        return f"the number {short(value)}"
    if isinstance(value, list):
        return "an empty list" if not value else "a list"
    return "an object"


def short(value: Any) -> str:
    """A value that fits into a message."""
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def _are_strings(values: Sequence[Any]) -> bool:
    return _STRING_TYPES.issuperset(map(type, values))


def _are_floats(values: Sequence[Any]) -> bool:
    # The sum finds NaN and infinity, which comparisons miss; it cannot overflow before a value passes float32's range.
    return _FLOAT_TYPES.issuperset(map(type, values)) and (
        not values or (max(values) <= FLOAT32_MAX and min(values) >= -FLOAT32_MAX and isfinite(sum(values)))
    )


def _are_ints(values: Sequence[Any]) -> bool:
    return _INT_TYPES.issuperset(map(type, values)) and (
        not values or (max(values) <= INT64_MAX and min(values) >= INT64_MIN)
    )


_CHECKS = {"string": _are_strings, "float32": _are_floats, "int64": _are_ints}


def _wrong_row(where: str, row: Any, names: frozenset[str]) -> str:
    if not isinstance(row, dict):
        return f"{where} must be an object with the features, not {kind(row)}"
    return wrong_names(where, row, names)


def _wrong_value(layout: Layout, columns: Mapping[str, Sequence[Any]], place: str, first: int = 0) -> str:
    """The first value that does not fit; called only when there is one. `place` is a format of the row's number."""
    for feature in layout.features:
        for row, value in enumerate(columns[feature.name], first):
            if not _CHECKS[feature.dtype]((value,)):
                return f'{place.format(row)}: "{feature.name}" must be {WANTED[feature.dtype]}, not {kind(value)}'
    raise AssertionError("a check found a wrong value, and each value fits")


def _picker(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], Values]:
    if not names:
        return lambda _: ()
    if len(names) == 1:
        return lambda row: (row[names[0]],)
    return itemgetter(*names)


def _transposed(names: tuple[str, ...], rows: list[Values]) -> dict[str, list[Any]]:
    return (
        dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        if names and rows
        else {name: [] for name in names}
    )
