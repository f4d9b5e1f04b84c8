"""Tokens, TLS and limits: a serving process that asks who comes, and has room for little."""

from __future__ import annotations

import gzip
import json
import threading
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx
import pytest
from serving_process import ROW, answers, await_true, predict, roll_back, roll_out, serving, stage

from ct.home import Home
from ct.rollout import ModelStore, lift_quarantine
from ct.tokens import Scope, TokenStore
from tests.certificates import make_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from serving_process import Served

SLOW_LOOPS = 50_000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for loopback, and its key."""
    alternative = ("-addext", "subjectAltName=IP:127.0.0.1")
    return make_certificate(tmp_path_factory.mktemp("tls"), "serving", "127.0.0.1", more=alternative)


class Collector:
    """An OpenTelemetry collector as far as its HTTP goes: keeps what it is sent."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                received.append(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Runs beside the server."""
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path], collector: Collector
) -> Iterator[Served]:
    """Tokens for all, TLS, four requests at a time, eight rows waiting, three seconds, memory for two versions."""
    home = Home(tmp_path_factory.mktemp("guarded") / "home").create()
    folder = tmp_path_factory.mktemp("guarded-models")
    settings = {
        "serving_access": "tokens",
        "serving_max_concurrent": 4,
        "serving_max_waiting_rows": 8,
        "serving_max_body_mb": 0.1,
        "serving_timeout_s": 3,
        "serving_memory_mb": 16,
    }
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with serving(home, folder, tls=certificate, variables=variables, **settings) as process:
        store = ModelStore(home, "trips")
        stage(store, folder, 1, 0.1)
        stage(store, folder, 2, 0.2, loops=SLOW_LOOPS)
        roll_out(store, 1)
        yield process


@pytest.fixture(scope="module")
def secrets(guarded: Served) -> dict[str, str]:
    """A token a scope."""
    tokens = TokenStore(guarded.home.tokens)
    made = {scope.value: tokens.create(f"a-{scope.value}", [scope]) for scope in Scope}
    with guarded.client(headers=bearer(made["read"])) as client:
        await_true(lambda: client.get("/v1/models/trips").status_code == 200, 10)
    return made


def bearer(secret: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/models/trips:predict", {"predict", "admin"}),
        ("POST", "/predict", {"predict", "admin"}),
        ("GET", "/v1/models/trips", {"read", "admin"}),
        ("GET", "/openapi.json", {"read", "admin"}),
        ("GET", "/metrics", {"read", "admin"}),
        ("GET", "/schema.json", {"predict", "read", "admin"}),
        ("GET", "/v1/models/trips/history", {"read", "admin"}),
        ("POST", "/v1/models/trips:rollback", {"admin"}),
        ("GET", "/livez", {"nobody", "predict", "read", "admin"}),
        ("GET", "/readyz", {"nobody", "predict", "read", "admin"}),
        ("GET", "/docs", {"nobody", "predict", "read", "admin"}),
    ],
)
def test_a_route_takes_the_tokens_of_its_scope_only(
    guarded: Served, secrets: dict[str, str], method: str, path: str, allowed: set[str]
) -> None:
    """401 without a token, 403 with another scope's; BentoML's own routes are guarded too."""
    body = (
        {"model": "trips", "instances": [ROW]}
        if path == "/predict"
        else {"instances": [ROW]}
        if "predict" in path
        else {"to": 9}
    )
    with guarded.client() as client:
        for who in ("nobody", *secrets):
            headers = bearer(secrets[who]) if who in secrets else {}
            answer = client.request(method, path, json=body if method == "POST" else None, headers=headers)
            if who in allowed:
                assert answer.status_code in (200, 409), answer.text  # 409: there is no version 9 to roll back to
            else:
                assert answer.status_code == (401 if who == "nobody" else 403)
                assert ("www-authenticate" in answer.headers) == (who == "nobody")


@pytest.mark.parametrize("value", ["Bearer wrong", "Basic YTpi", "Bearer \xff", "bearer"])
def test_a_wrong_authorization_is_refused(guarded: Served, secrets: dict[str, str], value: str) -> None:
    """And does not come back in the answer."""
    assert secrets
    with guarded.client() as client:
        answer = client.get("/v1/models/trips", headers={"authorization": value.encode("latin-1")})  # type: ignore[dict-item]
        assert answer.status_code == 401
        assert "wrong" not in answer.text


def test_a_revoked_token_is_refused_soon(guarded: Served, secrets: dict[str, str]) -> None:
    """Within moments, in a process that runs; a damaged file lets nobody in, and one that is mended does."""
    tokens = TokenStore(guarded.home.tokens)
    secret = tokens.create("short-lived", [Scope.READ])
    with guarded.client() as client:

        def status(of: str) -> int:
            return client.get("/v1/models/trips", headers=bearer(of)).status_code

        await_true(lambda: status(secret) == 200, 10)
        tokens.revoke("short-lived")
        await_true(lambda: status(secret) == 401, 10)
        content = guarded.home.tokens.read_text()
        guarded.home.tokens.write_text("{")
        await_true(lambda: status(secrets["read"]) == 401, 10)
        guarded.home.tokens.write_text(content)
        await_true(lambda: status(secrets["read"]) == 200, 10)
    assert guarded.log().count("cannot be read: it is damaged") == 1


def test_plain_http_gets_no_answer_where_tls_is_set(guarded: Served) -> None:
    """Nothing is said before the connection is safe."""
    with httpx.Client(base_url=guarded.url.replace("https", "http")) as client:
        assert not answers(client)


@pytest.mark.parametrize(("rows", "refused"), [(1, 429), (5, 503)], ids=["too many requests", "too many rows"])
def test_what_is_more_than_there_is_room_for_is_told_to_come_again(
    guarded: Served, secrets: dict[str, str], rows: int, refused: int
) -> None:
    """429 past the concurrency limit, 503 past the queue; each with Retry-After, and what was taken is answered."""
    store = ModelStore(guarded.home, "trips")
    roll_out(store, 2)
    got: list[httpx.Response] = []
    all_at_once = threading.Barrier(12)

    def ask() -> None:
        with guarded.client(headers=bearer(secrets["predict"])) as client:
            client.get("/livez")
            all_at_once.wait(20)
            got.append(predict(client, instances=[ROW] * rows))

    threads = [threading.Thread(target=ask) for _ in range(all_at_once.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    roll_out(store, 1)
    assert {200, refused} <= {answer.status_code for answer in got} <= {200, 429, 503}
    for answer in got:
        if answer.status_code != 200:
            assert answer.headers["retry-after"] == "1"
            assert "try again" in answer.json()["error"]


def test_a_body_that_does_not_become_whole_gets_408(guarded: Served, secrets: dict[str, str]) -> None:
    """A client that sends half a body and waits does not keep its connection for ever."""
    halves = threading.Event()

    def body() -> Iterator[bytes]:
        yield b'{"instances": '
        halves.wait(20)
        yield b"[]}"

    with guarded.client(headers=bearer(secrets["predict"])) as client:
        timer = threading.Timer(6, halves.set)
        timer.start()
        try:
            assert client.post("/v1/models/trips:predict", content=body()).status_code == 408
        except httpx.TransportError:
            pass  # the answer came, and the connection closed, while the client still wrote
        finally:
            timer.cancel()
            halves.set()
        assert predict(client).status_code == 200


def test_a_rollback_over_http_is_the_same_plan(guarded: Served, secrets: dict[str, str]) -> None:
    """It returns when the workers answer with the version; history and quarantine name the token and the reason."""
    store = ModelStore(guarded.home, "trips")
    roll_out(store, 2)
    with guarded.client(headers=bearer(secrets["admin"])) as client:
        wrong = client.post("/v1/models/trips:rollback", json={"to": "1"})
        assert (wrong.status_code, "must be the number of a version" in wrong.text) == (400, True)
        assert client.post("/v1/models/trips:rollback", json={"version": 1}).status_code == 400
        assert client.post("/v1/models/trips:rollback", json={"keep": 1}).status_code == 400
        assert client.post("/v1/models/other:rollback", json={}).status_code == 404
        drill = client.post("/v1/models/trips:rollback", json={"to": 1, "keep": True})
        assert (drill.json()["quarantined"], store.quarantined()) == (None, ())
        roll_out(store, 2)
        done = client.post("/v1/models/trips:rollback", json={"reason": "complaints"})
        assert done.status_code == 200, done.text
        assert (done.json()["from"], done.json()["to"], done.json()["workers"]) == (2, 1, 1)
        assert predict(client).headers["ct-model-version"] == "1"
        entry = client.get("/v1/models/trips/history").json()["history"][-1]
        assert (entry["actor"], entry["reason"], entry["change"]) == ("token a-admin", "complaints", "rollback")
        again = client.post("/v1/models/trips:rollback", json={"to": 1})
        assert (again.status_code, "serving already" in again.text) == (409, True)
        assert (done.json()["quarantined"], store.quarantined()) == (2, (2,))
        forward = client.post("/v1/models/trips:rollback", json={"to": 2})
        assert (forward.status_code, "is in quarantine" in forward.text) == (409, True)
    lift_quarantine(store, 2, by="on-call", reason="it was the network", at=datetime.now(timezone.utc))


def test_the_access_log_names_the_token_and_never_shows_it(guarded: Served, secrets: dict[str, str]) -> None:
    """A JSON line a request."""
    with guarded.client(headers={**bearer(secrets["predict"]), "x-request-id": "look-for-me"}) as client:
        predict(client)

    def lines() -> list[str]:
        return [line for path in guarded.home.logs.glob("access-*.jsonl") for line in path.read_text().splitlines()]

    await_true(lambda: any("look-for-me" in line for line in lines()), 10)
    entry = next(json.loads(line) for line in lines() if "look-for-me" in line)
    assert (entry["token"], entry["status"], entry["version"], entry["rows"]) == ("a-predict", 200, 1, 1)
    everything = "".join(lines()) + guarded.log()
    assert not any(secret in everything for secret in secrets.values())


def test_a_request_is_a_span_in_its_callers_trace(
    guarded: Served, secrets: dict[str, str], collector: Collector
) -> None:
    """Exported where OpenTelemetry's variables say, with model and version; a trace that is not sampled is left alone."""
    sampled, not_sampled = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319d"
    with guarded.client(headers=bearer(secrets["predict"])) as client:
        for trace, flag in ((not_sampled, "00"), (sampled, "01")):
            headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-{flag}"}
            body = {"instances": [ROW]}
            assert client.post("/v1/models/trips:predict", json=body, headers=headers).status_code == 200
    await_true(lambda: any(bytes.fromhex(sampled) in sent for sent in collector.received), 10)
    (sent,) = (sent for sent in collector.received if bytes.fromhex(sampled) in sent)
    assert b"tensorflow_serving trips" in sent
    assert b"ct-serving" in sent
    assert b"ct.version" in sent
    assert not any(bytes.fromhex(not_sampled) in other for other in collector.received)


def test_versions_stay_warm_as_far_as_the_memory_goes(guarded: Served, tmp_path: Path) -> None:
    """Three should stay loaded, and there is room for two of 7 MiB: the oldest goes, and a rollback to it still works."""
    store = ModelStore(guarded.home, "trips")
    stage(store, tmp_path, 3, 0.3)
    roll_out(store, 2)
    roll_out(store, 3)
    desired = store.desired()
    assert desired is not None
    assert desired.warm == (3, 2, 1)

    def loaded() -> tuple[int, ...]:
        (worker,) = store.live_workers()
        return worker.loaded

    await_true(lambda: loaded() == (2, 3), 10)
    assert "version 1 of trips does not stay warm: no room in serving_memory_mb" in guarded.log()
    assert roll_back(store, to=1) == 1
    await_true(lambda: loaded() == (1, 3), 10)
