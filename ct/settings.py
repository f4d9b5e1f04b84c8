"""The settings of one CT_HOME: addresses and URLs. Environment variables win over `settings.yaml`, that over defaults."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003  pydantic needs the class at run time
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ct.errors import ConfigError
from ct.home import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct.home import Home

PREFIX = "CT_"
LEDGER_URL = "ledger_url"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(BaseModel):
    """Where the processes listen. Each key `x` is read from `CT_X` or from settings.yaml in CT_HOME."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """The address that every server binds. Loopback, because nothing here asks for a password until told to."""

    airflow_port: int = Field(default=8080, ge=1, le=65535)
    """Airflow's UI and REST API."""

    mlflow_port: int = Field(default=5000, ge=1, le=65535)
    """The MLflow server that `ct up` starts."""

    serving_port: int = Field(default=8501, ge=1, le=65535)
    """Predictions; TensorFlow Serving's REST port, so that its clients need no change."""

    mlflow_url: str | None = None
    """An MLflow server of your own. When set, `ct up` starts none."""

    ledger_url: str | None = Field(default=None, repr=False)
    """Where the ledger is: a URL of SQLAlchemy's kind, postgresql://user:password@host/database. Default: SQLite in CT_HOME.
    It may hold a password, so `ct up` keeps it under secrets/ and not in settings.yaml."""

    serving_workers: int = Field(default=1, ge=1, le=64)
    """Processes that answer predictions, each with every version of its own. One answers several thousand rows a second."""

    serving_access: Literal["auto", "open", "tokens"] = "auto"
    """Who may predict and read: `open`, everyone who reaches the port; `tokens`, whoever has a token of `ct token`; `auto`,
    open on loopback and tokens elsewhere. Admin routes need a token in every case."""

    serving_tls_certificate: Path | None = None
    """PEM file with the certificate chain; with `serving_tls_key`, predictions are answered over TLS only."""

    serving_tls_key: Path | None = None
    """PEM file with the certificate's private key."""

    serving_max_body_mb: float = Field(default=8.0, gt=0)
    """MiB of a request's body; a larger one gets 413 before it is read whole."""

    serving_max_rows: int = Field(default=10_000, ge=1)
    """Rows of one request; more get 413."""

    serving_max_waiting_rows: int = Field(default=20_000, ge=1)
    """Rows that may wait in one worker for one version; past that a request gets 503 with Retry-After."""

    serving_max_concurrent: int = Field(default=1_000, ge=1)
    """Requests that one worker answers at a time; past that a request gets 429 with Retry-After."""

    serving_timeout_s: float = Field(default=10.0, gt=0)
    """Seconds a request may wait for its prediction; then it gets 503 with Retry-After."""

    serving_memory_mb: float = Field(default=4096.0, gt=0)
    """MiB that the loaded versions of one worker may take; past it the oldest warm ones are let go, never one that answers."""

    access_log: bool = True
    """Write a JSON line a request to logs/access-<pid>.jsonl, rotated."""

    prediction_log_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the requests whose rows and predictions are kept, for replays and for labels that come later."""

    prediction_log_mb: float = Field(default=512.0, gt=0)
    """MiB of a model's kept predictions; past it the oldest files go."""

    @model_validator(mode="after")
    def _a_certificate_has_its_key(self) -> Settings:
        if (self.serving_tls_certificate is None) != (self.serving_tls_key is None):
            raise ValueError("set both of serving_tls_certificate and serving_tls_key, or neither")
        for path in (self.serving_tls_certificate, self.serving_tls_key):
            if path is not None and not path.is_absolute():
                raise ValueError(f"{path} must be an absolute path: each process has a working directory of its own")
        return self

    @property
    def needs_token(self) -> bool:
        """Whether predicting and reading need a token; admin routes always do."""
        return self.serving_access == "tokens" or (self.serving_access == "auto" and self.host not in LOOPBACK)

    @property
    def airflow_base_url(self) -> str:
        return f"http://{self.host}:{self.airflow_port}"

    @property
    def serving_base_url(self) -> str:
        scheme = "https" if self.serving_tls_certificate else "http"
        return f"{scheme}://{self.host}:{self.serving_port}"

    @property
    def mlflow_base_url(self) -> str:
        """The MLflow server in use: ours or the one that `mlflow_url` names."""
        return self.mlflow_url or f"http://{self.host}:{self.mlflow_port}"

    @classmethod
    def load(cls, home: Home, environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings in force for this home.

        Raises:
            ConfigError: an unknown key or a value of the wrong type; the message names the key and where it was read.
        """
        import yaml  # noqa: PLC0415  the CLI's --help must not wait for it

        path = home.root / "settings.yaml"
        stored = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
        secret = home.secrets / LEDGER_URL
        if not isinstance(stored, dict):
            raise ConfigError(f"{path} must hold keys and values. Nothing was started.", path=str(path))
        overrides = {
            key: environment[PREFIX + key.upper()] for key in cls.model_fields if environment.get(PREFIX + key.upper())
        }
        try:
            kept = {LEDGER_URL: secret.read_text(encoding="utf-8").strip()} if secret.exists() else {}
            return cls.model_validate({**kept, **stored, **overrides})
        except ValidationError as error:
            lines = [
                f"  - {'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})"
                if e["loc"]
                else f"  - {e['msg']}"
                for e in error.errors()  # one about several settings holds all of them, with whatever is secret
            ]
            raise ConfigError(
                "\n".join([f"Settings from {path} and {PREFIX}* variables are not valid.", *lines]), path=str(path)
            ) from error

    def save(self, home: Home) -> None:
        """Keep these settings for later commands, so that every shell talks to the same addresses."""
        import yaml  # noqa: PLC0415

        secret = home.secrets / LEDGER_URL
        if self.ledger_url is None:
            secret.unlink(missing_ok=True)
        else:
            write_atomically(secret, self.ledger_url)
        plain = self.model_dump(mode="json", exclude_none=True, exclude={LEDGER_URL})
        write_atomically(home.root / "settings.yaml", yaml.safe_dump(plain))
