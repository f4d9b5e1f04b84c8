"""Notifications: sent to a real webhook by Apprise, tried again, given up, and never a secret in a message or a log."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from ct.errors import ConfigError
from ct.monitor.notify import WAITS, Outbox, send_with_apprise, urls_of
from ct.monitor_config import MonitorConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ct.home import Home

NOW = datetime(2026, 1, 5, tzinfo=timezone.utc)
SECRET = "hunter2"


@pytest.fixture
def webhook() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """A receiver on loopback: its port, and what it got."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not on the terminal."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1], got
    server.shutdown()
    server.server_close()


def addresses(home: Home, text: str, mode: int = 0o600) -> None:
    """Write secrets/notify.yaml."""
    path = home.secrets / "notify.yaml"
    path.write_text(text)
    path.chmod(mode)


def outbox(home: Home, sent: list[str] | None = None, *, works: bool = True) -> Outbox:
    """An outbox whose messages go to a list."""

    def send(urls: Sequence[str], title: str, body: str) -> bool:
        if sent is not None:
            sent.append(f"{urls[0]}: {title}")
        return works

    return Outbox(home, home.monitor / "flights" / "outbox", send)


def waiting(home: Home) -> list[str]:
    """The messages that are not sent."""
    return sorted(path.name for path in (home.monitor / "flights" / "outbox").glob("*"))


def test_apprise_delivers_to_a_webhook(home: Home, webhook: tuple[int, list[dict[str, Any]]]) -> None:
    """Title and text as they were put, once."""
    port, got = webhook
    addresses(home, f"ops: json://user:{SECRET}@127.0.0.1:{port}/\n")
    box = Outbox(home, home.monitor / "flights" / "outbox", send_with_apprise)
    box.put("1-rollback", "flights: rolled back", "because", to=("ops",), now=NOW)
    assert box.deliver(NOW) == []
    assert box.deliver(NOW) == []
    assert [(message["title"], message["message"]) for message in got] == [("flights: rolled back", "because")]
    assert waiting(home) == []


def test_a_receiver_that_is_away_is_tried_again_later(home: Home) -> None:
    """Each try waits longer; then it is given up, and each time it is said."""
    addresses(home, "ops: json://127.0.0.1/\n")
    sent: list[str] = []
    box = outbox(home, sent, works=False)
    box.put("m", "title", "body", to=("ops",), now=NOW)
    now = NOW
    assert "ops could not be told 'title'; the next try is at 00:00:30 UTC" in box.deliver(now)[0]
    assert box.deliver(now + timedelta(seconds=29)) == []
    for wait in WAITS:
        now += wait
        problems = box.deliver(now)
    assert "given up after 5 tries" in problems[0]
    assert (len(sent), waiting(home)) == (5, [])


def test_who_can_be_told_is_told_although_another_cannot(home: Home) -> None:
    """Each has a message of their own, so nobody gets one twice."""
    addresses(home, "ops: json://a/\n")
    sent: list[str] = []
    box = outbox(home, sent)
    box.put("m", "title", "body", to=("ops", "nobody"), now=NOW)
    assert "has no address of that name" in box.deliver(NOW)[0]
    box.deliver(NOW + WAITS[0])
    assert sent == ["json://a/: title"]
    assert waiting(home) == ["m@nobody.json"]


def test_putting_a_message_again_keeps_one(home: Home) -> None:
    """A process that was killed between two steps does the first one again."""
    addresses(home, "ops: json://a/\n")
    sent: list[str] = []
    box = outbox(home, sent)
    for _ in range(2):
        box.put("m", "title", "body", to=("ops",), now=NOW)
    box.deliver(NOW)
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("text", "mode", "what"),
    [
        (f"ops: json://{SECRET}@a/\n", 0o640, "may be read by others"),
        (f"ops: [json://{SECRET}@a/\n", 0o600, "cannot be read"),
        (f"other: json://{SECRET}@a/\n", 0o600, "has no address of that name"),
        (f"- json://{SECRET}@a/\n", 0o600, "has no address of that name"),
        ("ops: []\n", 0o600, "has no address of that name"),
    ],
)
def test_addresses_that_cannot_be_used_say_why_and_nothing_of_them(
    home: Home, text: str, mode: int, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They hold tokens."""
    addresses(home, text, mode)
    box = outbox(home)
    box.put("m", "title", "body", to=("ops",), now=NOW)
    (problem,) = box.deliver(NOW)
    assert what in problem
    assert SECRET not in problem + caplog.text


def test_no_file_of_addresses_is_said(home: Home) -> None:
    """With what to write and where."""
    with pytest.raises(ConfigError, match=r"there is no .*notify\.yaml.*chmod 600"):
        urls_of(home, "ops")


def test_several_addresses_of_one_name(home: Home) -> None:
    """A list is all of them."""
    addresses(home, "ops: [json://a/, json://b/]\n")
    assert urls_of(home, "ops") == ("json://a/", "json://b/")


def test_an_address_that_apprise_does_not_know_is_not_sent() -> None:
    """It is a failure like any other."""
    assert send_with_apprise(["nonsense://x"], "title", "body") is False


def test_a_damaged_message_stops_no_other(home: Home, tmp_path: Path) -> None:
    """It is named."""
    addresses(home, "ops: json://a/\n")
    sent: list[str] = []
    box = outbox(home, sent)
    box.put("z", "title", "body", to=("ops",), now=NOW)
    (home.monitor / "flights" / "outbox" / "a.json").write_text("{")
    assert "a.json cannot be read" in box.deliver(NOW)[0]
    assert len(sent) == 1


def test_pipeline_yaml_names_people_and_no_addresses() -> None:
    """A URL with a token must never stand there."""
    with pytest.raises(ValueError, match="should match pattern"):
        MonitorConfig(notify=("slack://token@channel",))
