"""Asks serving for its counters."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx

from ct.errors import CTError
from ct.tokens import Scope, TokenError, TokenStore

if TYPE_CHECKING:
    from ct.home import Home
    from ct.settings import Settings

TIMEOUT_S = 5.0
TOKEN = "ct-monitor"  # noqa: S105  a name


class NoMetricsError(CTError):
    """Serving did not show its counters. What it answers is not affected; the next look tries again."""


class ServingMetrics:
    """`GET /metrics`, with a token where serving asks for one.

    The token is made when this is, its secret is in this process only, and an earlier process's ends.
    """

    def __init__(self, home: Home, settings: Settings) -> None:
        self._url = settings.serving_base_url
        certificate = settings.serving_tls_certificate
        verify: ssl.SSLContext | bool = True
        if certificate is not None:
            # That very certificate is trusted; it is made out to the name that clients use, which need not be this address.
            verify = ssl.create_default_context(cafile=str(certificate))
            verify.check_hostname = False
        headers = {"Authorization": f"Bearer {_fresh_token(home)}"} if settings.needs_token else {}
        self._client = httpx.Client(timeout=TIMEOUT_S, verify=verify, headers=headers, trust_env=False)

    def __call__(self) -> str:
        """The text.

        Raises:
            NoMetricsError: serving did not answer, or refused.
        """
        try:
            answer = self._client.get(f"{self._url}/metrics")
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise NoMetricsError(
                f"Serving at {self._url} did not show its counters ({error}), so errors and latency are not watched until it "
                "does. See `ct status`.",
                url=self._url,
            ) from error
        return answer.text


def _fresh_token(home: Home) -> str:
    tokens = TokenStore(home.tokens)
    if any(token.name == TOKEN for token in tokens.list()):
        with suppress(TokenError):  # somebody was faster; what counts is that it is gone
            tokens.revoke(TOKEN)
    return tokens.create(TOKEN, [Scope.READ])
