"""The settings of one CT_HOME: addresses and URLs. Environment variables win over `settings.yaml`, that over defaults."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ct.errors import ConfigError
from ct.home import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct.home import Home

PREFIX = "CT_"


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

    @property
    def airflow_base_url(self) -> str:
        return f"http://{self.host}:{self.airflow_port}"

    @property
    def serving_base_url(self) -> str:
        return f"http://{self.host}:{self.serving_port}"

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
        if not isinstance(stored, dict):
            raise ConfigError(f"{path} must hold keys and values. Nothing was started.", path=str(path))
        overrides = {
            key: environment[PREFIX + key.upper()] for key in cls.model_fields if environment.get(PREFIX + key.upper())
        }
        try:
            return cls.model_validate({**stored, **overrides})
        except ValidationError as error:
            lines = [f"  - {'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors()]
            raise ConfigError(
                "\n".join([f"Settings from {path} and {PREFIX}* variables are not valid.", *lines]), path=str(path)
            ) from error

    def save(self, home: Home) -> None:
        """Keep these settings for later commands, so that every shell talks to the same addresses."""
        import yaml  # noqa: PLC0415

        write_atomically(home.root / "settings.yaml", yaml.safe_dump(self.model_dump(exclude_none=True)))
