"""`ct history`, `ct at`: what served when, who or what changed it, and why."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click

from ct.cli.durations import parse_duration
from ct.cli.known import model_store
from ct.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.contracts import HistoryEntry

AGO = " ago"


@click.command()
@click.argument("name")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many changes.")
@json_option
def history(name: str, limit: int, as_json: bool) -> None:  # noqa: FBT001
    """What served when, who changed it and why, newest first.

    Rollouts, rollbacks and reverts of NAME, canaries and shadows included.
    """
    from ct.home import Home  # noqa: PLC0415

    changes = model_store(Home.from_environment(), name).history()
    if as_json:
        print_json(_with_ends(changes)[:limit])
    elif changes:
        print_history(changes, limit)
    else:
        click.echo(f"nothing has served yet; `ct rollout {name} --version V` lets a version serve")


@click.command()
@click.argument("name")
@click.argument("time", nargs=-1, required=True)
@json_option
def at(name: str, time: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001
    """Which version of NAME served at TIME.

    TIME is how long ago, such as 30m, 2h or 3d, or ISO 8601, such as 2026-03-01T14:30 (local time) or 2026-03-01T13:30Z.
    """
    from ct.home import Home  # noqa: PLC0415
    from ct.rollout import served_at, serving_since  # noqa: PLC0415

    moment = moment_of(" ".join(time), now=datetime.now(timezone.utc))
    changes = model_store(Home.from_environment(), name).history()
    found = served_at(changes, moment)
    until_then = changes[: changes.index(found) + 1] if found else ()
    began = serving_since(until_then)
    if as_json:
        print_json({"name": name, "at": moment.isoformat(), **_answer(found, began)})
        return
    for line in _lines(name, moment, found, began, first=changes[0] if changes else None):
        click.echo(line)


def moment_of(text: str, *, now: datetime) -> datetime:
    """A moment as people type it, in UTC: ISO 8601, local where it names no zone, or a span before `now`.

    Raises:
        click.BadParameter: it is neither, or lies in the future.
    """
    text = text.strip()
    try:
        moment = datetime.fromisoformat(text).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        try:
            moment = now - parse_duration(text.removesuffix(AGO))
        except click.BadParameter as error:
            raise click.BadParameter(
                f'"{text}" is no time; write ISO 8601 such as 2026-03-01T14:30, or how long ago: 30m, 2h, 3d.',
                param_hint="TIME",
            ) from error
    if moment > now:
        raise click.BadParameter(f'"{text}" is in the future.', param_hint="TIME")
    return moment


def print_history(changes: Sequence[HistoryEntry], limit: int) -> None:
    """The newest changes as a table, newest first, and how many there are besides."""
    rows = [_row(entry) for entry in reversed(changes[-limit:])]
    header = ("at", "change", "from", "to", "canary", "shadow", "marks", "by", "why")
    print_table("history", header, rows)
    if len(changes) > limit:
        click.echo(f"older changes: {len(changes) - limit}; `ct history NAME --limit {len(changes)}` shows them all")


def _row(entry: HistoryEntry) -> tuple[object, ...]:
    from ct.rollout import percent  # noqa: PLC0415

    canary = entry.canary
    split = f"{canary.version}: {percent(canary.share)} by {canary.key}" if canary else None
    return (
        _shown(entry.at),
        entry.change.value,
        entry.previous,
        entry.version,
        split,
        entry.shadow,
        _marks(entry),
        entry.actor,
        entry.reason,
    )


def _marks(entry: HistoryEntry) -> str | None:
    """That a person overruled the gate, and what was put into quarantine."""
    marks = ["forced"] if entry.forced else []
    marks += [f"{entry.quarantined} quarantined"] if entry.quarantined is not None else []
    return ", ".join(marks) or None


def _shown(moment: datetime) -> str:
    """Local time to the millisecond, rounded up: `ct at` with a change's time must answer with that change."""
    return (moment.astimezone() + timedelta(microseconds=999)).isoformat(timespec="milliseconds")


def _with_ends(changes: Sequence[HistoryEntry]) -> list[dict[str, Any]]:
    """Newest first, each with the time of the change that followed; None for what serves now."""
    told = [entry.model_dump(mode="json") for entry in changes]
    ends = [entry["at"] for entry in told[1:]] + [None]
    return [{**entry, "until": end} for entry, end in reversed(list(zip(told, ends, strict=False)))]


def _answer(found: HistoryEntry | None, began: HistoryEntry | None) -> dict[str, Any]:
    return {
        "version": found.version if found else None,
        "canary": found.canary.model_dump(mode="json") if found and found.canary else None,
        "shadow": found.shadow if found else None,
        "since": began.model_dump(mode="json")["at"] if began else None,
        "change": found.model_dump(mode="json") if found else None,
    }


def _lines(
    name: str, moment: datetime, found: HistoryEntry | None, began: HistoryEntry | None, first: HistoryEntry | None
) -> list[str]:
    from ct.rollout import canary_text, shadow_text  # noqa: PLC0415

    when = f"{name} at {_shown(moment)}"
    if found is None or began is None:
        return [f"{when}: nothing served yet" + (f"; the first rollout was at {_shown(first.at)}" if first else "")]
    lines = [f"{when}: version {found.version} served, since {_told(began)}"]
    if found.canary is not None:
        lines.append(f"  canary: {canary_text(found.canary, 'ed')}")
    if found.shadow is not None:
        lines.append(f"  shadow: {shadow_text(found.shadow, 'ed')}")
    return lines if found == began else [*lines, f"  last change: {_told(found)}"]


def _told(entry: HistoryEntry) -> str:
    marks = _marks(entry)
    return f"{_shown(entry.at)}, {entry.change.value}{f' ({marks})' if marks else ''} by {entry.actor}: {entry.reason}"
