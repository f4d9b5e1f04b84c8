"""Durations as people type them: `30m`, `2h`, `3d`."""

from __future__ import annotations

import re
from datetime import timedelta

import click

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LONGEST = timedelta(days=3650)
_SHAPE = re.compile(r"(?P<number>[0-9]{1,9})(?P<unit>[smhd])")


def parse_duration(text: str) -> timedelta:
    """A whole number and a unit: s, m, h or d.

    Raises:
        click.BadParameter: it is of another shape, not above zero, or longer than ten years.
    """
    found = _SHAPE.fullmatch(text.strip().lower())
    if found is None:
        raise click.BadParameter(
            f'"{text}" is no duration; write a whole number and s, m, h or d, such as 30m, 2h or 3d.'
        )
    duration = timedelta(**{UNITS[found["unit"]]: int(found["number"])})
    if not timedelta(0) < duration <= LONGEST:
        raise click.BadParameter(f'"{text}" must be above zero and at most {LONGEST.days}d.')
    return duration
