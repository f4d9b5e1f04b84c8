"""An Airflow connection as a value, so that sources need no Airflow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

HIDDEN = "***"


@dataclass(frozen=True)
class Connection:
    """How to reach a server. Its repr holds no user, no password and nothing of `extra`."""

    id: str
    """The name under which Airflow keeps it."""
    conn_type: str
    host: str | None = None
    port: int | None = None
    login: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    """Of PostgreSQL the database."""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, airflow_connection: Any) -> Connection:
        """From Airflow's own `Connection`, whose `extra` is JSON text."""
        return cls(
            id=airflow_connection.conn_id,
            conn_type=airflow_connection.conn_type,
            host=airflow_connection.host or None,
            port=airflow_connection.port or None,
            login=airflow_connection.login or None,
            password=airflow_connection.password or None,
            schema=airflow_connection.schema or None,
            extra=airflow_connection.extra_dejson,
        )

    def without_secrets(self, text: str) -> str:
        """A server's or driver's message with the user, the password and every secret of `extra` blotted out."""
        secrets = [secret for secret in (self.password, *_leaves(self.extra)) if secret]
        for secret in sorted({*secrets, *(quote(secret, safe="") for secret in secrets)}, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return re.sub(rf"(?<!\w){re.escape(self.login)}(?!\w)", HIDDEN, text) if self.login else text


SECRET_KEYS = re.compile(r"pass|secret|token|key|credential", re.IGNORECASE)


def _leaves(value: Any, *, secret: bool = False) -> list[str]:
    """The texts below keys whose names say that they hold a secret."""
    if isinstance(value, Mapping):
        named = [(secret or SECRET_KEYS.search(str(key)) is not None, inner) for key, inner in value.items()]
        return [leaf for is_secret, inner in named for leaf in _leaves(inner, secret=is_secret)]
    return [value] if secret and isinstance(value, str) else []
