"""What must be so before anything starts. Each function raises with what is wrong and what to do."""

from __future__ import annotations

import errno
import shutil
import socket
import ssl
from typing import TYPE_CHECKING

import psutil

from ct import planes
from ct.errors import ConfigError, DaemonError, HomeError
from ct.settings import PREFIX

if TYPE_CHECKING:
    from ct.home import Home
    from ct.settings import Settings

FREE_MIN_BYTES = 2 * 1024**3
"""One run of a small pipeline, its logs and three databases fit in it."""


def check(home: Home, settings: Settings) -> None:
    """Planes, CT_HOME, disk and ports, in this order. Creates CT_HOME's folders and nothing else.

    Raises:
        PlaneMissingError: a plane is not installed.
        HomeError: CT_HOME cannot be written, is of another layout, or is nearly full.
        ConfigError: two processes are to listen on one port.
        DaemonError: a port is taken, or the host is not this machine's.
    """
    for plane in planes.Plane:
        planes.python(plane)
    home.create()
    check_disk(home, free_bytes=shutil.disk_usage(home.root).free)
    ports = {
        "airflow_port": settings.airflow_port,
        "serving_port": settings.serving_port,
        **({} if settings.mlflow_url else {"mlflow_port": settings.mlflow_port}),
    }
    check_ports(settings.host, ports)
    check_tls(settings)


def check_tls(settings: Settings) -> None:
    """Raises ConfigError when the certificate or its key cannot be read, or are not of one pair."""
    certificate, key = settings.serving_tls_certificate, settings.serving_tls_key
    if certificate is None or key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"Serving cannot use the certificate {certificate} with the key {key}: {error}. Nothing was started. "
            f"Set {PREFIX}SERVING_TLS_CERTIFICATE and {PREFIX}SERVING_TLS_KEY to the PEM files of one pair, the key without "
            "a password.",
            certificate=str(certificate),
            key=str(key),
        ) from error


def _no_password() -> str:
    """Asked by OpenSSL for an encrypted key; without this it would ask at the terminal, and a daemon has none."""
    raise ValueError("the key is encrypted")


def check_disk(home: Home, *, free_bytes: int) -> None:
    """Raises HomeError when less than 2 GiB are free: a run would die half-way."""
    if free_bytes < FREE_MIN_BYTES:
        raise HomeError(
            f"The disk of CT_HOME {home.root} has {free_bytes / 1024**3:.1f} GiB free, ct needs "
            f"{FREE_MIN_BYTES / 1024**3:.0f} GiB. Nothing was started. Free space or choose another folder with CT_HOME.",
            home=str(home.root),
            free_bytes=free_bytes,
        )


def check_ports(host: str, ports: dict[str, int]) -> None:
    """Raises when a port cannot be listened on; `ports` maps the setting's name to the port."""
    for setting, port in ports.items():
        twins = [name for name, other in ports.items() if other == port]
        if len(twins) > 1:
            raise ConfigError(
                f"{' and '.join(twins)} are both {port}. Nothing was started. Set {PREFIX}{twins[1].upper()} to another.",
                port=port,
            )
        _check_port(host, setting, port)


def _check_port(host: str, setting: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: closed connections linger
        try:
            probe.bind((host, port))
        except OSError as error:
            variable = PREFIX + setting.upper()
            if error.errno == errno.EADDRINUSE:
                reason = f"Port {port} is taken{_taken_by(port)}. Nothing was started. Free it, or set {variable}"
            elif error.errno == errno.EACCES:
                reason = f"Port {port} is for root only. Nothing was started. Set {variable}"
            else:
                reason = (
                    f"{host}:{port} cannot be listened on: {error}. Nothing was started. Set {PREFIX}HOST or {variable}"
                )
            raise DaemonError(f"{reason} to another, as in `{variable}={port + 1} ct up`.", port=port) from error


def _taken_by(port: int) -> str:
    """By whom, as far as this user may see."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return ""
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        if listens and connection.pid:
            try:
                words = psutil.Process(connection.pid).cmdline()
            except psutil.Error:
                words = []
            return f" by process {connection.pid} ({' '.join(words)[:80] or 'unknown'})"
    return " by another process"
