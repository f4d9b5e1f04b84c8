"""Self-signed certificates, made by OpenSSL."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

IN_THE_CLEAR = ("-nodes",)
"""The key without a password."""


def make_certificate(
    folder: Path, name: str, subject: str, *, key: tuple[str, ...] = IN_THE_CLEAR, more: tuple[str, ...] = ()
) -> tuple[Path, Path]:
    """`<name>.pem` and `<name>.key`, for a day.

    Args:
        folder: where they go.
        name: of the files.
        subject: the common name.
        key: OpenSSL's options for the key.
        more: further options, such as an alternative name.
    """
    certificate, private = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "1"]
    command += ["-subj", f"/CN={subject}", *key, *more, "-keyout", str(private), "-out", str(certificate)]
    subprocess.run(command, capture_output=True, check=True)
    return certificate, private
