"""Ask each process whether it does its work."""

from __future__ import annotations

import json
import ssl
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING

from ct.daemon.programs import HttpCheck, WorkerCheck
from ct.worker.execution import NoWorkerError, ping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.daemon.programs import Program

TIMEOUT_S = 3.0
HTTP_OK = 200


def problems(programs: Sequence[Program], timeout_s: float = TIMEOUT_S) -> dict[str, str | None]:
    """For each program: None when it is healthy, else what is wrong. All are asked at the same time."""
    with ThreadPoolExecutor(max_workers=max(1, len(programs))) as threads:
        answers = threads.map(lambda program: problem(program, timeout_s), programs)
        return dict(zip((program.name for program in programs), answers, strict=True))


def problem(program: Program, timeout_s: float = TIMEOUT_S) -> str | None:
    """None when the program is healthy, else what is wrong in a few words."""
    check = program.check
    if isinstance(check, WorkerCheck):
        try:
            ping(check.socket, timeout_s)
        except NoWorkerError as error:
            return f"no answer: {error}"
        return None
    return _ask_http(check, timeout_s) if isinstance(check, HttpCheck) else None


def _ask_http(check: HttpCheck, timeout_s: float) -> str | None:
    # http.client knows no proxies; a proxy from the environment must not stand between two local processes.
    try:
        connection = _connection(check, timeout_s)
    except (OSError, ssl.SSLError) as error:
        return f"the certificate {check.tls_certificate} cannot be read: {error}"
    try:
        connection.request("GET", check.path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, HTTPException) as error:
        return f"no answer: {error}"
    finally:
        connection.close()
    if response.status != HTTP_OK:
        return f"{check.path} answers {response.status}"
    return _part_problem(body, check.part) if check.part else None


def _connection(check: HttpCheck, timeout_s: float) -> HTTPConnection:
    if check.tls_certificate is None:
        return HTTPConnection(check.host, check.port, timeout=timeout_s)
    # That very certificate is trusted; it is made out to the name that clients use, which need not be this address.
    context = ssl.create_default_context(cafile=str(check.tls_certificate))
    context.check_hostname = False
    return HTTPSConnection(check.host, check.port, timeout=timeout_s, context=context)


def _part_problem(body: bytes, part: str) -> str | None:
    """What Airflow's health report says of one part; a part that never beat has status null."""
    try:
        status = (json.loads(body).get(part) or {}).get("status")
    except (ValueError, AttributeError) as error:
        return f"the health report cannot be read: {error}"
    return None if status == "healthy" else f"Airflow reports it as {status or 'not started yet'}"
