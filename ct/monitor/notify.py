"""Tells people: messages wait in an outbox on disk until Apprise has sent them.

::

    secrets/notify.yaml             0600; name -> an Apprise URL, or a list of them:  ops: mailto://user:password@example.com
    monitor/<model>/outbox/
      <message>@<name>.json         Message: one that `name` has not got yet

A message is sent at least once: when the process is killed between sending and noting it, it comes twice.
"""

from __future__ import annotations

import logging
import stat
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from ct.contracts import Value
from ct.errors import ConfigError
from ct.home import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ct.home import Home

LOG = logging.getLogger("ct.monitor")
WAITS = (timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10), timedelta(hours=1))
"""Before each further try; after the last one the message is given up, and the log says so."""
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Message(Value):
    """A message for one name of notify.yaml."""

    to: str
    title: str
    body: str
    tries: int = Field(default=0, ge=0)
    due: datetime


class Outbox:
    """The messages of one model that are still to be sent.

    Args:
        home: whose secrets hold the addresses.
        folder: of the outbox.
        send: URLs, title, body -> whether all got it; `send_with_apprise` but in tests.
    """

    def __init__(self, home: Home, folder: Path, send: Callable[[Sequence[str], str, str], bool]) -> None:
        self._home = home
        self._folder = folder
        self._send = send

    def put(self, name: str, title: str, body: str, *, to: Sequence[str], now: datetime) -> None:
        """Keep a message for each of `to`. Putting one of the same name again, before it is sent, changes nothing."""
        for who in to:
            path = self._folder / f"{name}@{who}.json"
            if not path.exists():
                write_atomically(path, Message(to=who, title=title, body=body, due=now).model_dump_json())

    def deliver(self, now: datetime) -> list[str]:
        """Send what is due. Whatever happens is said and logged, and nothing is raised.

        Returns:
            What went wrong, a sentence each.
        """
        problems: list[str] = []
        for path in sorted(self._folder.glob("[!.]*.json")):
            try:
                message = Message.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as error:
                problems.append(f"the message {path.name} cannot be read: {type(error).__name__}")
                continue
            if message.due <= now:
                problems += self._try(path, message, now)
        for problem in problems:
            LOG.warning("%s", problem)
        return problems

    def _try(self, path: Path, message: Message, now: datetime) -> list[str]:
        try:
            if self._send(urls_of(self._home, message.to), message.title, message.body):
                path.unlink()
                LOG.info("told %s: %s", message.to, message.title)
                return []
            problem = f"{message.to} could not be told '{message.title}'"
        except ConfigError as error:
            problem = error.message
        if message.tries >= len(WAITS):
            path.unlink()
            return [f"{problem}; given up after {message.tries + 1} tries"]
        due = now + WAITS[message.tries]
        write_atomically(path, message.model_copy(update={"tries": message.tries + 1, "due": due}).model_dump_json())
        return [f"{problem}; the next try is at {due:%H:%M:%S} UTC"]


def urls_of(home: Home, name: str) -> tuple[str, ...]:
    """The Apprise URLs of a name in notify.yaml. They hold secrets: never in a message or a log.

    Raises:
        ConfigError: there is no such file or name, others may read the file, or it cannot be read.
    """
    import yaml  # noqa: PLC0415  the CLI's --help must not wait for it

    path = home.secrets / "notify.yaml"
    hint = f"Write `{name}: <Apprise URL>` into {path} and `chmod 600` it. What serves is not affected."
    try:
        if path.stat().st_mode & OTHERS:
            raise ConfigError(f"{path} may be read by others, so {name} was not told. {hint}", path=str(path))
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{name} was not told: there is no {path}. {hint}", path=str(path)) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        kind = type(error).__name__  # its text may quote a secret
        raise ConfigError(f"{name} was not told: {path} cannot be read ({kind}). {hint}", path=str(path)) from None
    urls = found.get(name) if isinstance(found, dict) else None
    urls = [urls] if isinstance(urls, str) else urls
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise ConfigError(f"{name} was not told: {path} has no address of that name. {hint}", path=str(path))
    return tuple(urls)


def send_with_apprise(urls: Sequence[str], title: str, body: str) -> bool:
    """Send to every URL; whether all took it."""
    import apprise  # noqa: PLC0415  only when there is something to send

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it may log an address, and with it a token
    sender = apprise.Apprise()
    added = [sender.add(url) for url in urls]
    if not all(added):
        return False
    return bool(sender.notify(title=title, body=body, notify_type=apprise.NotifyType.WARNING))
