"""What describes a canary on the command line: its share of the requests, and what they are chosen by."""

from __future__ import annotations

import re

import click

_KEY = re.compile(r"header:[A-Za-z0-9-]+|feature:.+")


def parse_share(text: str) -> float:
    """A share above 0 and below 1, written as `10%` or `0.1`.

    Raises:
        click.BadParameter: it is no number, or not within these bounds.
    """
    text = text.strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError as error:
        raise click.BadParameter(f'"{text}" is no share; write 10% or 0.1.') from error
    share = number / 100 if text.endswith("%") else number
    if not 0 < share < 1:
        hint = f" Is {text}% meant?" if 1 <= share < 100 else ""  # noqa: PLR2004  per cent
        raise click.BadParameter(f"{text} is not above 0 and below 100%.{hint} Without --canary it is all of it.")
    return share


def parse_key(text: str) -> str:
    """`header:<name>` or `feature:<name>`; a header's name in lower case, because HTTP does not tell cases apart.

    Raises:
        click.BadParameter: it is neither.
    """
    text = text.strip()
    if _KEY.fullmatch(text) is None:
        raise click.BadParameter(f'"{text}" is no key; write header:ct-key or feature:carrier.')
    return text.lower() if text.startswith("header:") else text
