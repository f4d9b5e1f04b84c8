"""`ct token`: who may predict, read and administer over the serving API."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from ct.cli.durations import parse_duration
from ct.cli.output import ago, json_option, print_json, print_table

if TYPE_CHECKING:
    from datetime import timedelta

    from ct.tokens import Token, TokenStore

SCOPES = ("predict", "read", "admin")
"""ct.tokens.Scope, whose import `ct --help` must not wait for."""


@click.group()
def token() -> None:
    """Tokens of the serving API: create, list, revoke."""


@token.command()
@click.argument("name")
@click.option(
    "--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True, help="May be given more than once."
)
@click.option(
    "--expires", "lifetime", type=parse_duration, metavar="DURATION", help="For example 30d; by default never."
)
@json_option
def create(*, name: str, scopes: tuple[str, ...], lifetime: timedelta | None, as_json: bool) -> None:
    """Make the token NAME and print its secret, once.

    The scope admin includes predict and read, which do not include each other.
    """
    from ct.tokens import Scope  # noqa: PLC0415

    expires_at = datetime.now(timezone.utc) + lifetime if lifetime else None
    secret = _store().create(name, [Scope(scope) for scope in scopes], expires_at)
    if as_json:
        print_json(
            {
                "name": name,
                "scopes": list(dict.fromkeys(scopes)),
                "expires_at": expires_at.isoformat() if expires_at else None,
                "secret": secret,
            }
        )
        return
    # On standard error, so that `$(ct token create ...)` is the secret alone.
    click.echo(f"token {name} ({', '.join(dict.fromkeys(scopes))}), {_expiry(expires_at)}", err=True)
    click.echo("Its secret is shown now and never again. Send it as `Authorization: Bearer <secret>`:", err=True)
    click.echo(secret)


@token.command("list")
@json_option
def list_tokens(*, as_json: bool) -> None:
    """The tokens, without their secrets."""
    now = datetime.now(timezone.utc)
    found = _store().list()
    if as_json:
        shown = ("name", "scopes", "created_at", "expires_at")
        print_json(
            [{**each.model_dump(mode="json", include=set(shown)), "expired": each.is_expired(now)} for each in found]
        )
    elif found:
        print_table(None, ("token", "scopes", "made", "expires"), [_row(each, now) for each in found])
    else:
        click.echo("no tokens yet; `ct token create NAME --scope predict` makes one")


@token.command()
@click.argument("name")
@json_option
def revoke(*, name: str, as_json: bool) -> None:
    """End the token NAME. Serving workers refuse it within about a second."""
    _store().revoke(name)
    if as_json:
        print_json({"name": name, "revoked": True})
    else:
        click.echo(f"token {name} is revoked; serving workers refuse it within about a second")


def _store() -> TokenStore:
    from ct.home import Home  # noqa: PLC0415
    from ct.tokens import TokenStore  # noqa: PLC0415

    home = Home.from_environment()
    home.check_layout()
    return TokenStore(home.tokens)


def _row(each: Token, now: datetime) -> tuple[object, ...]:
    expiry = f"expired {ago(each.expires_at)}" if each.is_expired(now) else _expiry(each.expires_at)
    return each.name, ", ".join(scope.value for scope in each.scopes), ago(each.created_at), expiry


def _expiry(expires_at: datetime | None) -> str:
    if expires_at is None:
        return "until it is revoked"
    return f"until {expires_at.astimezone().isoformat(timespec='seconds')}"
