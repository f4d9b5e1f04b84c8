"""Connections: what is secret shows nowhere."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ct.sources.connection import Connection
from ct.sources.failures import unreachable

SECRET = Connection(
    "warehouse",
    "postgres",
    "db.example",
    5432,
    "etl",
    "p/w@d",
    "flights",
    {"aws_session_token": "t0ken", "sslmode": "require", "service": {"api_key": "k3y"}},
)


def test_a_connection_is_made_of_airflows_fields() -> None:
    """Empty fields are none; extra is a mapping."""
    fields = {
        "conn_id": "lake",
        "conn_type": "aws",
        "host": "",
        "port": 0,
        "login": "a",
        "password": "b",
        "schema": None,
    }
    connection = Connection.of(SimpleNamespace(**fields, extra_dejson={"region_name": "x"}))
    assert connection == Connection("lake", "aws", login="a", password="b", extra={"region_name": "x"})


@pytest.mark.parametrize("show", [str, repr, lambda connection: f"{connection}"])
def test_it_does_not_show_user_password_or_extra(show: object) -> None:
    """Whoever logs it logs host and database only."""
    assert callable(show)
    text = show(SECRET)
    assert "db.example" in text
    assert not any(secret in text for secret in ("etl", "p/w@d", "t0ken", "k3y", "require"))


@pytest.mark.parametrize("secret", ["p/w@d", "p%2Fw%40d", "etl", "t0ken", "k3y"])
def test_an_error_never_repeats_a_secret(secret: str) -> None:
    """Whatever a driver says; also percent-encoded and inside `extra`."""
    error = unreachable("postgresql://db.example/flights/t", SECRET, f'cannot use "{secret}" at\n db.example.')
    assert secret not in str(error)
    assert 'cannot use "***" at db.example.' in str(error)


def test_words_that_hold_the_users_name_stay_readable() -> None:
    """A user called `etl` does not blot out `settled`."""
    assert SECRET.without_secrets("settled etl, require") == "settled ***, require"


def test_an_error_says_what_to_check() -> None:
    """And that nothing was recorded."""
    error = unreachable("s3://lake/x", SECRET, "no route")
    assert str(error) == (
        "Cannot read s3://lake/x: no route. Nothing was recorded; the next look tries again. "
        'Check the connection "warehouse".'
    )
    assert error.retryable
