"""Who may do what: bearer tokens with scopes, and which scope a route needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.web.messages import HttpError

if TYPE_CHECKING:
    from ct.tokens import TokenStore

PREDICT, READ, ADMIN, ANY, NONE = "predict", "read", "admin", "any", ""
"""Scopes. A route with ANY takes every token; one with NONE answers everyone: a load balancer asks `/livez` without a token."""
CHALLENGE = (b"www-authenticate", b'Bearer realm="ct"')
BEARER = b"bearer "


class Access:
    """Checks a request's token.

    Args:
        tokens: the store; a damaged one knows no token, so nobody gets in by it.
        required: whether predicting and reading need a token. Admin routes need one in any case.
    """

    def __init__(self, tokens: TokenStore, *, required: bool) -> None:
        self._tokens = tokens
        self._required = required

    def check(self, authorization: bytes | None, scope: str) -> str | None:
        """Let a request pass, or not.

        Returns:
            The token's name; None where none was needed.

        Raises:
            HttpError: 401 without a valid token, 403 with one that lacks the scope.
        """
        if scope == NONE or (scope != ADMIN and not self._required):
            return None
        if authorization is None or not authorization.lower().startswith(BEARER):
            raise HttpError(
                401,
                f'this needs a token with the scope "{scope}": send `Authorization: Bearer ...`',
                headers=(CHALLENGE,),
            )
        token = self._tokens.find(authorization[len(BEARER) :].strip().decode("latin-1"))
        if token is None:
            raise HttpError(401, "this token is not known here, was revoked or has expired", headers=(CHALLENGE,))
        if scope != ANY and not token.allows(scope):
            raise HttpError(403, f'the token "{token.name}" has not the scope "{scope}"')
        return token.name
