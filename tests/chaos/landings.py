"""What lands in the chaos test: a seeded plan of good, repeated, revised, half-written and corrupt spans."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

GOOD, TORN, COPIES, REWRITES, REVISIONS, ABANDONED, CORRUPT = 130, 10, 10, 10, 25, 5, 10
"""200 landings: new spans, some of them written in two halves with a pause; the same bytes under another name and under their
own; other bytes under a known name; files whose end never comes; files that no reader can take."""
ROWS = 150


@dataclass(frozen=True)
class Landing:
    """One file on its way into the folder."""

    name: str
    content: bytes
    torn: bool = False
    """Written in place, in two halves with a pause; otherwise renamed into place."""


@dataclass(frozen=True)
class Plan:
    """What lands, in order, and what it must come to."""

    landings: Sequence[Landing]
    good: frozenset[str]
    """Names whose last content is to be trained on exactly once."""
    copies: frozenset[str]
    """Names that hold the bytes of another span: `<its name>-copy`. Where nobody looks for a while, a copy may be seen first,
    and is the span then; a span that is revised has none, for its first bytes may never be seen but in the copy."""
    abandoned: frozenset[str]
    corrupt: frozenset[str]


def plan(rows: Sequence[dict[str, str]], seed: int) -> Plan:
    """A plan over real flights.

    Args:
        rows: of a CSV span, column -> text; every span gets ROWS of them, spread over their whole time.
        seed: decides everything.
    """
    draw = random.Random(seed)  # noqa: S311  a plan that can be repeated
    names = [f"span-{number:03}" for number in range(GOOD + TORN)]
    torn = set(draw.sample(names[5:], TORN))
    content = {name: _csv(_some(rows, draw)) for name in names}
    landings = [Landing(name, content[name], torn=name in torn) for name in names]
    later: list[tuple[int, Landing]] = []
    whole = [place for place, name in enumerate(names) if name not in torn]  # the others may be half written just then
    revised = draw.sample(whole, REVISIONS)
    later += [(place, Landing(names[place], _csv(_some(rows, draw)))) for place in revised]
    copied = draw.sample([place for place in range(len(names)) if place not in revised], COPIES)
    later += [(place, Landing(f"{names[place]}-copy", content[names[place]])) for place in copied]
    later += [(place, landings[place]) for place in draw.sample(whole, REWRITES)]
    later += [
        (draw.randrange(len(names)), bad) for bad in (*_abandoned(rows, draw), *_corrupt(content[names[0]], draw))
    ]
    order = [(float(place), landing) for place, landing in enumerate(landings)]
    order += [(place + draw.uniform(0.5, 40), landing) for place, landing in later]
    ordered = [landing for _, landing in sorted(order, key=lambda pair: pair[0])]
    return Plan(
        landings=ordered,
        good=frozenset(names),
        copies=frozenset(f"{names[place]}-copy" for place in copied),
        abandoned=frozenset(landing.name for landing in ordered if landing.name.startswith("abandoned")),
        corrupt=frozenset(landing.name for landing in ordered if landing.name.startswith("corrupt")),
    )


def land(landing: Landing, folder: Path, half: int | None = None) -> None:
    """Put a file into the folder; of a torn one the first half (0) or the rest (1)."""
    path = folder / f"{landing.name}.csv"
    if half is None:
        hidden = folder / f".{landing.name}.csv"
        hidden.write_bytes(landing.content)
        hidden.rename(path)
        return
    middle = len(landing.content) // 2
    with path.open("ab") as file:
        file.write(landing.content[middle:] if half else landing.content[:middle])


def _some(rows: Sequence[dict[str, str]], draw: random.Random) -> list[dict[str, str]]:
    chosen = sorted(draw.sample(range(len(rows)), ROWS))
    return [rows[index] for index in chosen]


def _csv(rows: Sequence[dict[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _abandoned(rows: Sequence[dict[str, str]], draw: random.Random) -> list[Landing]:
    return [Landing(f"abandoned-{number}", _csv(_some(rows, draw))[:-10]) for number in range(ABANDONED)]


def _corrupt(good: bytes, draw: random.Random) -> list[Landing]:
    """Each with another fault, and other bytes."""
    header, _, body = good.partition(b"\n")
    faults = (
        lambda: header.replace(b"carrier", b"carrer") + b"\n" + body,
        lambda: b"",
        lambda: header + b"\n",
        lambda: good.replace(b",", b";"),
        lambda: header + b"\n" + body.replace(b",", b",x", 40),
        lambda: good.decode().encode("utf-16"),
        lambda: b"PK\x03\x04" + bytes(draw.randrange(256) for _ in range(500)) + b"\n",
        lambda: header + b"\n" + body.replace(b"\n", b',"\n', 1),
        lambda: header + b"," + header.split(b",")[0] + b"\n" + body,
        lambda: header + b"\n" + b"\0" * 100 + b"\n" + body,
    )
    return [Landing(f"corrupt-{number}", fault()) for number, fault in zip(range(CORRUPT), faults, strict=True)]
