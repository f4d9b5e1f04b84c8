"""Bearer tokens: what is on disk, who gets in, and what happens when the file is damaged."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from ct.tokens import Scope, TokenError, TokenStore

if TYPE_CHECKING:
    from pathlib import Path

    from ct.tokens import Token

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the tokens will be; the folder is not there yet."""
    return tmp_path / "secrets" / "tokens.json"


def found(path: Path, secret: str) -> Token | None:
    """What a server that starts now makes of a secret."""
    store = TokenStore(path)
    store.refresh()
    return store.find(secret)


def test_a_secret_is_found_and_only_its_hash_is_on_disk(path: Path) -> None:
    """`ct_` and 43 URL-safe characters; file 0600, folder 0700."""
    secret = TokenStore(path).create("app", [Scope.PREDICT])
    assert re.fullmatch(r"ct_[A-Za-z0-9_-]{43}", secret)
    token = found(path, secret)
    assert token is not None
    assert (token.name, token.scopes) == ("app", (Scope.PREDICT,))
    text = path.read_text()
    assert secret not in text
    assert secret[3:] not in text
    assert hashlib.sha256(secret.encode()).hexdigest() in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_two_secrets_differ(path: Path) -> None:
    """Each name has its own, and both are found."""
    store = TokenStore(path)
    first, second = store.create("a", [Scope.READ]), store.create("b", [Scope.READ])
    assert first != second
    assert [token.name for token in (found(path, secret) for secret in (first, second)) if token] == ["a", "b"]


@pytest.mark.parametrize("wrong", ["", "ct_", "ct_" + "A" * 43, "\ud800", "é" * 50, "x" * 100_000])
def test_a_wrong_secret_is_not_found(path: Path, wrong: str) -> None:
    """Whatever a header holds, it is no crash."""
    TokenStore(path).create("app", [Scope.ADMIN])
    assert found(path, wrong) is None


def test_the_hash_of_a_secret_is_no_secret(path: Path) -> None:
    """Who has read the file cannot get in with what it holds."""
    secret = TokenStore(path).create("app", [Scope.ADMIN])
    assert found(path, hashlib.sha256(secret.encode()).hexdigest()) is None


def test_admin_is_for_everything_and_the_others_are_apart(path: Path) -> None:
    """Predicting does not include reading, nor the reverse."""
    store = TokenStore(path)
    for scope in Scope:
        store.create(scope.value, [scope])
    allowed = {token.name: [scope.value for scope in Scope if token.allows(scope)] for token in store.list()}
    assert allowed == {"predict": ["predict"], "read": ["read"], "admin": ["predict", "read", "admin"]}


def test_a_revoked_token_is_not_found_after_the_next_refresh(path: Path) -> None:
    """A server keeps to what it read until it refreshes; the other tokens stay."""
    store, server = TokenStore(path), TokenStore(path)
    gone, stays = store.create("gone", [Scope.READ]), store.create("stays", [Scope.READ])
    server.refresh()
    store.revoke("gone")
    assert server.find(gone) is not None
    server.refresh()
    assert server.find(gone) is None
    assert server.find(stays) is not None


def test_an_expired_token_is_not_found(path: Path) -> None:
    """From its very moment on, without a refresh; it is listed still, and its name is taken until it is revoked."""
    clock = Clock()
    store = TokenStore(path, clock)
    secret = store.create("app", [Scope.READ], NOW + timedelta(days=30))
    store.refresh()
    clock.now = NOW + timedelta(days=30) - timedelta(microseconds=1)
    assert store.find(secret) is not None
    clock.now = NOW + timedelta(days=30)
    assert store.find(secret) is None
    assert [token.is_expired(clock.now) for token in store.list()] == [True]
    with pytest.raises(TokenError, match="There is a token"):
        store.create("app", [Scope.READ])


def test_what_cannot_be_made_is_refused_and_changes_nothing(path: Path) -> None:
    """A taken or unusable name, no scope, an expiry that is past; and a name to revoke that is not there."""
    store = TokenStore(path, Clock())
    store.create("app", [Scope.READ])
    before = path.read_bytes()
    for name, scopes, expires_at, message in (
        ("app", [Scope.READ], None, "There is a token"),
        ("a b", [Scope.READ], None, "cannot name a token"),
        ("../x", [Scope.READ], None, "cannot name a token"),
        ("", [Scope.READ], None, "cannot name a token"),
        ("new", [], None, "would allow nothing"),
        ("new", [Scope.READ], NOW, "would have expired"),
    ):
        with pytest.raises(TokenError, match=message):
            store.create(name, scopes, expires_at)
    with pytest.raises(TokenError, match=r'no token "other" \(tokens: app\)'):
        store.revoke("other")
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["", "{", '{"tokens": [{"name": "x"}]}', "\x00", '{"tokens": [], "more": 1}'])
def test_a_damaged_file_lets_nobody_in(path: Path, damage: str) -> None:
    """The error comes once, names the file and not its content; commands refuse to write over it."""
    store = TokenStore(path)
    secret = store.create("app", [Scope.ADMIN])
    store.refresh()
    path.write_text(damage)
    with pytest.raises(TokenError, match=r"tokens\.json cannot be read: it is damaged"):
        store.refresh()
    assert store.find(secret) is None
    store.refresh()
    assert store.find(secret) is None
    for change in (lambda: store.create("b", [Scope.READ]), lambda: store.revoke("app"), store.list):
        with pytest.raises(TokenError, match="nothing was changed"):
            change()
    assert path.read_text() == damage


def test_a_repaired_file_lets_in_again(path: Path) -> None:
    """Once the backup is back, no restart is needed; a second damage is told again."""
    store = TokenStore(path)
    secret = store.create("app", [Scope.ADMIN])
    good = path.read_text()
    for _ in range(2):
        path.write_text("{")
        with pytest.raises(TokenError):
            store.refresh()
        path.write_text(good)
        store.refresh()
        assert store.find(secret) is not None


def test_a_file_that_cannot_be_opened_lets_nobody_in(path: Path) -> None:
    """A folder in its place, which not even root can read as a file."""
    path.mkdir(parents=True)
    store = TokenStore(path)
    with pytest.raises(TokenError, match="cannot be read: Is a directory"):
        store.refresh()
    with pytest.raises(TokenError):
        store.create("app", [Scope.READ])


def test_a_removed_file_lets_nobody_in(path: Path) -> None:
    """No file is no tokens, and not an error."""
    store = TokenStore(path)
    secret = store.create("app", [Scope.READ])
    store.refresh()
    path.unlink()
    store.refresh()
    assert store.find(secret) is None
    assert store.list() == ()


def test_no_token_is_known_before_the_first_refresh(path: Path) -> None:
    """A server that forgot to refresh lets nobody in."""
    store = TokenStore(path)
    assert store.find(store.create("app", [Scope.READ])) is None


def test_a_refresh_reads_only_a_file_that_was_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unchanged file costs a look at its inode."""
    store = TokenStore(path)
    store.create("app", [Scope.READ])
    reads: list[int] = []
    read = store._read
    monkeypatch.setattr(store, "_read", lambda: reads.append(1) or read())
    store.refresh()
    store.refresh()
    assert len(reads) == 1
    TokenStore(path).create("b", [Scope.READ])
    store.refresh()
    assert len(reads) == 2


def test_commands_at_once_lose_no_token(path: Path) -> None:
    """Twenty are made by as many threads, each with a store of its own."""
    threads = [
        threading.Thread(target=lambda number=number: TokenStore(path).create(f"t{number}", [Scope.READ]))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(token.name for token in TokenStore(path).list()) == sorted(f"t{number}" for number in range(20))
    assert sorted(file.name for file in path.parent.iterdir()) == ["tokens.json", "tokens.json.lock"]


def test_a_lookup_is_cheap_among_many_tokens(path: Path) -> None:
    """10,000 requests a second leave 100 us for all of a request; a lookup may take a tenth of that, also among 200 tokens."""
    store = TokenStore(path)
    secrets = [store.create(f"t{number}", [Scope.READ]) for number in range(200)]
    store.refresh()
    began = time.process_time()
    for _ in range(10):
        for secret in secrets:
            store.find(secret)
    assert (time.process_time() - began) / 2000 < 10e-6
