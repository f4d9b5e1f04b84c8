"""What is checked before anything starts."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from ct.daemon import preflight
from ct.errors import ConfigError, DaemonError, HomeError, PlaneMissingError
from ct.home import Home
from ct.settings import Settings
from tests.certificates import IN_THE_CLEAR, make_certificate

if TYPE_CHECKING:
    from pathlib import Path


def test_missing_plane_is_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the serving plane nothing is created, and the message says what to run."""
    monkeypatch.setenv("CT_SERVING_ENV", str(tmp_path / "none"))
    monkeypatch.setenv("CT_TRAINING_ENV", sys.prefix)
    with pytest.raises(PlaneMissingError, match=r"serving plane is not installed.*make setup"):
        preflight.check(Home(tmp_path / "home"), Settings())
    assert not (tmp_path / "home").exists()


def test_taken_port_names_port_holder_and_setting() -> None:
    """The message says which port, who has it, and which setting to change."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(DaemonError) as error:
            preflight.check_ports("127.0.0.1", {"mlflow_port": port})
    assert f"Port {port} is taken by process {os.getpid()}" in error.value.message
    assert "Nothing was started" in error.value.message
    assert f"CT_MLFLOW_PORT={port + 1} ct up" in error.value.message


def test_free_port_passes() -> None:
    """A port that nobody listens on is fine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    preflight.check_ports("127.0.0.1", {"mlflow_port": port})


def test_one_port_for_two_is_refused() -> None:
    """Two settings with the same port are named."""
    with pytest.raises(ConfigError, match=r"airflow_port and mlflow_port are both 18204"):
        preflight.check_ports("127.0.0.1", {"airflow_port": 18204, "mlflow_port": 18204})


def test_strange_host_is_named() -> None:
    """An address that is not this machine's cannot be listened on, and CT_HOST is the setting."""
    with pytest.raises(DaemonError, match=r"192\.0\.2\.1.*CT_HOST"):
        preflight.check_ports("192.0.2.1", {"serving_port": 18205})


def test_full_disk_is_refused(tmp_path: Path) -> None:
    """With less than 2 GiB free nothing starts."""
    with pytest.raises(HomeError, match=r"1\.0 GiB free, ct needs 2 GiB"):
        preflight.check_disk(Home(tmp_path), free_bytes=1024**3)
    preflight.check_disk(Home(tmp_path), free_bytes=2 * 1024**3)


def test_a_certificate_and_its_key_are_tried_before_anything_starts(tmp_path: Path) -> None:
    """Missing files, a key of another pair, an encrypted key: one message that names both files and settings."""
    pairs = {
        name: make_certificate(tmp_path, name, "x", key=key)
        for name, key in (("a", IN_THE_CLEAR), ("b", IN_THE_CLEAR), ("locked", ("-passout", "pass:secret")))
    }
    preflight.check_tls(_with_tls(*pairs["a"]))
    wrong = [(pairs["a"][0], pairs["b"][1]), (tmp_path / "none", pairs["a"][1]), pairs["locked"]]
    for certificate, key in wrong:
        with pytest.raises(ConfigError, match="Nothing was started") as error:
            preflight.check_tls(_with_tls(certificate, key))
        assert str(key) in error.value.message
        assert "CT_SERVING_TLS_KEY" in error.value.message


def _with_tls(certificate: Path, key: Path) -> Settings:
    return Settings(serving_tls_certificate=certificate, serving_tls_key=key)
