"""Edits of a text protobuf that leave everything else as its author wrote it: comments, order, line breaks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<mark>[{}<>:,;\[\]])|(?P<word>[^\s{}<>:,;\[\]"'\#]+)""",
    re.VERBOSE,
)


@dataclass
class Field:
    """A field with a plain value, and where that value stands in the text."""

    name: str
    value: str
    begin: int
    end: int


@dataclass
class Block:
    """A message, and where its braces stand: `end` is the position of the closing one."""

    name: str
    begin: int
    end: int = -1
    fields: list[Field] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def block(self, kind: str, name: str | None = None) -> Block | None:
        """The first block inside of this kind, with a field `name` of this value where one is given."""
        return next((block for block in self.blocks if block.name == kind and block.is_called(name)), None)

    def is_called(self, name: str | None) -> bool:
        """True when the block's field `name` has this value, or None is asked for."""
        found = self.field("name")
        return name is None or (found is not None and found.value.strip("\"'") == name)

    def field(self, name: str) -> Field | None:
        """The first field of this name."""
        return next((each for each in self.fields if each.name == name), None)


def parse(text: str) -> Block:
    """The blocks and fields of a text protobuf.

    Raises:
        ValueError: braces do not pair, or there is something that no text protobuf holds.
    """
    root = Block("", 0, len(text))
    open_blocks, name = [root], ""
    for kind, token, begin in _tokens(text):
        if token in ("{", "<"):
            block = Block(name, begin)
            open_blocks[-1].blocks.append(block)
            open_blocks.append(block)
            name = ""
        elif token in ("}", ">"):
            if len(open_blocks) == 1:
                raise ValueError(f"a brace closes at character {begin} and none is open")
            open_blocks.pop().end = begin
        elif kind == "mark":
            continue
        elif name:
            open_blocks[-1].fields.append(Field(name, token, begin, begin + len(token)))
            name = name if _in_list(text, begin + len(token)) else ""
        else:
            name = token
    if len(open_blocks) > 1:
        raise ValueError(f"the brace at character {open_blocks[-1].begin} is not closed")
    return root


def with_value(text: str, found: Field, value: str) -> str:
    """The text with another value of one field."""
    return text[: found.begin] + value + text[found.end :]


def with_fields(text: str, block: Block, lines: Sequence[str]) -> str:
    """The text with fields added at a block's end, laid out as the block is: on its line, or a line each."""
    inside = text[block.begin + 1 : block.end]
    if "\n" not in inside:
        kept = text[: block.begin + 1] + inside.rstrip()
        return f"{kept} {' '.join(lines)} {text[block.end :]}"
    last = block.fields[-1].begin if block.fields else block.begin
    line_begin = text.rfind("\n", 0, last) + 1
    indent = text[line_begin : len(text) - len(text[line_begin:].lstrip())]
    closing = text.rfind("\n", 0, block.end) + 1
    if text[closing : block.end].strip():  # the brace closes on a line with fields
        return text[: block.end].rstrip() + "".join(f"\n{indent}{line}" for line in lines) + f" {text[block.end :]}"
    return text[:closing] + "".join(f"{indent}{line}\n" for line in lines) + text[closing:]


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"character {position} belongs to no text protobuf")
        position = match.end()
        if match.lastgroup != "space":
            yield str(match.lastgroup), match.group(), match.start()


def _in_list(text: str, position: int) -> bool:
    """True when a comma of a list follows, `value: ["a", "b"]`: the next token is a value of the same field."""
    opened = text.rfind("[", 0, position)
    return opened > text.rfind("]", 0, position) and text[position:].lstrip().startswith(",")
