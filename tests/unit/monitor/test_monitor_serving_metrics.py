"""How the monitor asks serving for its counters: with a token where one is needed, and what it says without an answer."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from ct.monitor.serving_metrics import NoMetricsError, ServingMetrics
from ct.settings import Settings
from ct.tokens import TokenStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ct.home import Home


@pytest.fixture
def asked() -> Iterator[tuple[int, list[str | None]]]:
    """A server that shows counters: its port, and the Authorization of each request."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_response(200 if self.path == "/metrics" else 404)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Not on the terminal."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], seen
    server.shutdown()
    server.server_close()


def test_on_loopback_nothing_is_needed(home: Home, asked: tuple[int, list[str | None]]) -> None:
    """No token is made."""
    port, seen = asked
    assert ServingMetrics(home, Settings(serving_port=port))() == "ok"
    assert seen == [None]
    assert TokenStore(home.tokens).list() == ()


def test_where_tokens_are_needed_one_is_made_that_may_read_only(
    home: Home, asked: tuple[int, list[str | None]]
) -> None:
    """A second process ends the first one's, so that one is valid at any time."""
    port, seen = asked
    settings = Settings(serving_port=port, serving_access="tokens")
    for _ in range(2):
        assert ServingMetrics(home, settings)() == "ok"
    tokens = TokenStore(home.tokens)
    tokens.refresh()
    assert [(token.name, [scope.value for scope in token.scopes]) for token in tokens.list()] == [
        ("ct-monitor", ["read"])
    ]
    first, second = (str(header).removeprefix("Bearer ") for header in seen)
    assert tokens.find(first) is None
    assert tokens.find(second) is not None


def test_no_answer_says_what_is_not_watched(home: Home) -> None:
    """And what to look at."""
    with pytest.raises(NoMetricsError, match="errors and latency are not watched until it does"):
        ServingMetrics(home, Settings(serving_port=1))()
