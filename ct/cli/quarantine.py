"""`ct quarantine`: versions that were withdrawn and must not serve again, and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ct.cli.known import model_store
from ct.cli.output import ago, json_option, print_json, print_table
from ct.cli.user import user_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.contracts import QuarantineRecord


@click.command()
@click.argument("name")
@click.option("--lift", type=click.IntRange(min=1), metavar="V", help="Let this version be rolled out again.")
@click.option("--reason", help="Why it is lifted; the record keeps it.")
@click.option("--who", metavar="NAME", help="Who lifts it; by default the user.")
@json_option
def quarantine(*, name: str, lift: int | None, reason: str | None, who: str | None, as_json: bool) -> None:
    """Versions of NAME that a rollback, or the end of a worse canary, put into quarantine, with the reason; or lift one.

    A version in quarantine is not rolled out, and the gate refuses candidates made from the same data, pipeline and seed. A
    lift changes nothing that serves; `ct rollout NAME --version V` does then.
    """
    from datetime import datetime, timezone  # noqa: PLC0415

    from ct.cli.change import finish_cut_short, not_told  # noqa: PLC0415
    from ct.home import Home  # noqa: PLC0415
    from ct.rollout import lift_quarantine  # noqa: PLC0415

    home = Home.from_environment()
    store = model_store(home, name)
    if lift is None:
        if reason is not None or who is not None:
            raise click.UsageError("--reason and --who say why and by whom a quarantine is lifted; they need --lift.")
        _print(name, store.quarantine_records(), as_json=as_json)
        return
    if reason is None or not reason.strip():
        raise click.UsageError("--lift needs a --reason, which the record keeps.")
    lifted = lift_quarantine(store, lift, by=who or user_name(), reason=reason, at=datetime.now(timezone.utc))
    problem = finish_cut_short(home, store)
    if problem is None and store.registry_behind is not None:
        problem = "another change is under way."
    if problem:
        click.echo(not_told(problem, store), err=True)
    if as_json:
        _print(name, store.quarantine_records(), as_json=True)
        return
    click.echo(
        f'{name}: version {lift} is out of quarantine (it was there for: "{lifted.reason}"). Nothing that serves has changed; '
        f"`ct rollout {name} --version {lift}` lets it serve."
    )


def _print(name: str, records: Sequence[QuarantineRecord], *, as_json: bool) -> None:
    """Newest first."""
    if as_json:
        print_json([record.model_dump(mode="json") for record in reversed(records)])
        return
    if not records:
        click.echo(f"no version of {name} was ever in quarantine")
        return
    print_table(
        f"quarantine of {name}", ("version", "since", "by", "why", "lifted"), [_row(r) for r in reversed(records)]
    )


def _row(record: QuarantineRecord) -> tuple[object, ...]:
    lift = record.lifted
    lifted = f"{ago(lift.at)} by {lift.by}: {lift.reason}" if lift else None
    return record.version, ago(record.at), record.by, record.reason, lifted
