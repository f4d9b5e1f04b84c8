"""How serving is started: one command and environment for the daemon, and for the proof of what is to serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct.planes import Plane, environment

if TYPE_CHECKING:
    from ct.home import Home
    from ct.settings import Settings

TLS_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; BentoML's own choice leaves CBC with SHA-1 only. TLS 1.3 has good ones only."""

KEEP_ALIVE_S = 120
"""An idle connection is kept longer than clients keep one (Go 90 s, most load balancers 60 s): when the server closes first, a
request that is sent at that moment is lost to a reset. BentoML's own choice is 5."""


def serving_command(settings: Settings) -> tuple[str, ...]:
    """The program and its arguments. The interpreter need not be there; `ct up` checks that it is."""
    certificate, key = settings.serving_tls_certificate, settings.serving_tls_key
    tls = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), "--ssl-ciphers", TLS_CIPHERS)
    return (
        *(str(environment(Plane.SERVING) / "bin" / "python"), "-m", "bentoml", "serve", "serving.service:Serving"),
        *("--host", settings.host, "--port", str(settings.serving_port), "--timeout-keep-alive", str(KEEP_ALIVE_S)),
        *(tls if certificate and key else ()),
    )


def serving_environment(home: Home) -> dict[str, str]:
    """Variables to lay over an inherited environment."""
    return {
        "CT_HOME": str(home.root),
        # The workers' numbers meet here; in BentoML's own folder they would meet those of every other service of this user.
        "BENTOML_HOME": str(home.run / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
    }
