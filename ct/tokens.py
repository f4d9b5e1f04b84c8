"""Bearer tokens of the serving API: who may predict, read or administer. Made and revoked by `ct token`, checked by serving.

The secret is shown once; the file holds its SHA-256 only. A slow password hash would protect nothing here: it makes guessing a
weak secret expensive, and a secret of 256 random bits cannot be guessed at any speed.

::

    secrets/                   0700
      tokens.json              0600, replaced atomically: {"tokens": [Token, ...]}
      tokens.json.lock         held by a command that changes the file
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import secrets
from contextlib import contextmanager
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, Field, ValidationError

from ct.contracts import Value
from ct.errors import CTError
from ct.home import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

PREFIX = "ct_"
"""Lets people and secret scanners recognise a token."""
SECRET_BYTES = 32
"""43 characters of base64url."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class TokenError(CTError):
    """A token cannot be made, revoked or read. No token was changed; an unreadable file lets nobody in."""


class Scope(str, Enum):
    """What a token allows."""

    PREDICT = "predict"
    READ = "read"
    """Metadata and states of models, metrics."""
    ADMIN = "admin"
    """Changing what serves; predict and read too."""


class Token(Value):
    """One token, without its secret."""

    name: str
    scopes: tuple[Scope, ...] = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of the secret, in hex.")
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = Field(description="From then on the token is not found; None: never.")

    def allows(self, scope: str) -> bool:
        """Whether the token is for this; `admin` is for everything."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


class _TokenFile(Value):
    tokens: tuple[Token, ...]


def _now() -> datetime:
    return datetime.now(timezone.utc)


class TokenStore:
    """The tokens of one home.

    Two ways of use. Commands call `create`, `revoke` and `list`, which read the file each time. A server calls `refresh` from
    one thread, and `find` from any: `find` never touches the disk, and knows no token before the first `refresh`.

    Args:
        path: the file; it need not exist.
        clock: the time, with a zone.
    """

    def __init__(self, path: Path, clock: Callable[[], datetime] = _now) -> None:
        self._path = path
        self._clock = clock
        self._known: dict[bytes, Token] = {}
        self._seen: tuple[int, int, int] | None = None
        self._problem: str | None = None

    def create(self, name: str, scopes: Iterable[Scope], expires_at: datetime | None = None) -> str:
        """Make a token.

        Args:
            name: shown in lists, in the access log and in the history; letters, digits, `.`, `_` and `-`.
            scopes: what it allows, at least one.
            expires_at: with a zone; None for a token that lives until it is revoked.

        Returns:
            The secret, `ct_` and 43 URL-safe characters. It is kept nowhere.

        Raises:
            TokenError: the name is taken or not allowed, no scope is given, the expiry is past, or the file is unusable.
        """
        now, kept = self._clock(), tuple(dict.fromkeys(scopes))
        if _NAME.fullmatch(name) is None:
            raise TokenError(
                f'"{name}" cannot name a token: use up to 63 letters, digits, `.`, `_` and `-`. None was made.',
                name=name,
            )
        if not kept:
            raise TokenError(f'Token "{name}" would allow nothing. None was made. Give it a scope.', name=name)
        if expires_at is not None and expires_at <= now:
            raise TokenError(
                f'Token "{name}" would have expired at {expires_at.isoformat()}. None was made.', name=name
            )
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        made = Token(name=name, scopes=kept, sha256=_digest(secret).hex(), created_at=now, expires_at=expires_at)
        with self._alone():
            tokens = self._read()
            if any(token.name == name for token in tokens):
                raise TokenError(
                    f'There is a token "{name}" already, and it is as before. Choose another name, or end it with '
                    f"`ct token revoke {name}`.",
                    name=name,
                )
            self._write((*tokens, made))
        return secret

    def revoke(self, name: str) -> None:
        """End a token: servers refuse it from their next `refresh` on.

        Raises:
            TokenError: there is none of this name, or the file is unusable.
        """
        with self._alone():
            tokens = self._read()
            left = tuple(token for token in tokens if token.name != name)
            if len(left) == len(tokens):
                known = ", ".join(token.name for token in tokens) or "none"
                raise TokenError(f'There is no token "{name}" (tokens: {known}). Nothing was changed.', name=name)
            self._write(left)

    def list(self) -> tuple[Token, ...]:
        """All tokens, expired ones too, in the order they were made.

        Raises:
            TokenError: the file is unusable.
        """
        return self._read()

    def find(self, secret: str) -> Token | None:
        """The token of a secret, as of the last `refresh`; None when it is unknown, revoked or expired.

        Takes about a microsecond. It looks up a hash, not a secret: how long that takes tells at most about the hash of what
        was sent, and no secret can be built towards a wanted hash, so a comparison in constant time is not needed.
        """
        token = self._known.get(_digest(secret))
        return None if token is None or token.is_expired(self._clock()) else token

    def refresh(self) -> None:
        """Read the file if it was replaced since the last time. For one thread.

        While the file cannot be read, no token is found, and each call tries again.

        Raises:
            TokenError: the file cannot be read. Raised once for a problem, not again at each call while it lasts.
        """
        try:
            seen = self._signature()
            if seen is not None and seen == self._seen:
                return
            known = {bytes.fromhex(token.sha256): token for token in self._read()}
        except TokenError as error:
            self._known, self._seen = {}, None
            is_news = error.message != self._problem
            self._problem = error.message
            if is_news:
                raise
        else:
            self._known, self._seen, self._problem = known, seen, None

    def _signature(self) -> tuple[int, int, int] | None:
        """What changes when the file is replaced; None when there is no file."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> tuple[Token, ...]:
        try:
            return _TokenFile.model_validate_json(self._path.read_bytes()).tokens
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from error
        except ValidationError as error:
            # Its text would repeat the file's content.
            raise self._unreadable(f"it is damaged ({error.error_count()} problems)") from None

    def _write(self, tokens: tuple[Token, ...]) -> None:
        # The file is 0600 from its first byte on: write_atomically makes it with mkstemp.
        write_atomically(self._path, _TokenFile(tokens=tokens).model_dump_json(indent=2))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One change at a time; the next one waits. The lock goes with the process that holds it."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._path.with_name(self._path.name + ".lock").open("w", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise TokenError(
                f"The tokens in {self._path} cannot be written: {error.strerror}. Nothing was changed. "
                "Free space or give this user the folder, then try again.",
                path=str(self._path),
            ) from error

    def _unreadable(self, reason: str) -> TokenError:
        return TokenError(
            f"The tokens in {self._path} cannot be read: {reason}. No token is valid now, and nothing was changed. "
            "Restore the file from a backup, or remove it and make new tokens with `ct token create`.",
            path=str(self._path),
            reason=reason,
        )


def _digest(secret: str) -> bytes:
    # A header may hold anything; what cannot be text is looked up too, and not found.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
