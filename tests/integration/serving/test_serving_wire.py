"""What can be wrong on the wire: each has an answer, none ends a worker, and none is a 500."""

from __future__ import annotations

import json
import select
import socket
from typing import TYPE_CHECKING, Any

import pytest
from serving_process import ROW, predict

if TYPE_CHECKING:
    import httpx
    from serving_process import Served

    from ct.rollout import ModelStore

PATH = "/v1/models/trips:predict"
BODY = json.dumps({"instances": [ROW]}).encode()


def talk(served: Served, sent: bytes, *, answers: int = 1) -> list[tuple[int, dict[str, str], bytes]]:
    """Send bytes on one connection and read so many answers: status, headers, body."""
    got = []
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(sent)
        with connection.makefile("rb") as reader:
            while len(got) < answers:
                line = reader.readline()
                if not line:
                    break
                status = int(line.split()[1])
                headers = {}
                while (line := reader.readline()) not in (b"\r\n", b""):
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = b"" if status == 100 else reader.read(int(headers.get("content-length", 0)))
                got.append((status, headers, body))
    return got


def request(body: bytes = BODY, *, headers: str = "", path: str = PATH, method: str = "POST") -> bytes:
    """A request's bytes."""
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


def test_pipelined_requests_are_answered_in_order(served: Served, store: ModelStore) -> None:
    """Ours and BentoML's mixed, sent at once on one connection."""
    assert store.name == "trips"
    wrong = json.dumps({"instances": []}).encode()
    sent = (
        request()
        + request(wrong)
        + request(b"", path="/healthz", method="GET")
        + request()
        + request(b"", path="/livez", method="GET")
    )
    got = talk(served, sent, answers=5)
    assert [status for status, _, _ in got] == [200, 400, 200, 200, 200]
    assert json.loads(got[3][2]) == {"predictions": [0.4]}


def test_chunked_and_expected_bodies_work(served: Served, store: ModelStore) -> None:
    """A body without a length, and one whose client waits for `100 Continue`."""
    assert store.name == "trips"
    chunked = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    for part in (BODY[:10], BODY[10:]):
        chunked += f"{len(part):x}\r\n".encode() + part + b"\r\n"
    ((status, _, body),) = talk(served, chunked + b"0\r\n\r\n")
    assert (status, json.loads(body)) == (200, {"predictions": [0.4]})
    expecting = request(headers="expect: 100-continue\r\n")
    assert [status for status, _, _ in talk(served, expecting, answers=2)] == [100, 200]


def test_a_connection_is_kept_or_closed_as_asked(served: Served, store: ModelStore) -> None:
    """`connection: close` is honoured, and HTTP/1.0 closes."""
    assert store.name == "trips"
    ((_, headers, _),) = talk(served, request(headers="connection: close\r\n") + request(), answers=2)
    assert headers["connection"] == "close"
    old = request().replace(b"HTTP/1.1", b"HTTP/1.0")
    ((status, headers, _),) = talk(served, old, answers=2)
    assert (status, headers["connection"]) == (200, "close")


def test_a_client_that_pauses_finds_its_connection_open(served: Served, store: ModelStore) -> None:
    """For longer than the 5 s after which BentoML's own setting resets it, maybe as the next request is on its way."""
    assert store.name == "trips"
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(request())
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        said, _, _ = select.select([connection], [], [], 6)
        assert not said, "the server closed the connection"
        connection.sendall(request())
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_body_past_the_limit_gets_413(served: Served, client: httpx.Client) -> None:
    """Whether its length is said, hidden in chunks, or asked for first; the next request works."""
    large = b"x" * (9 * 1024 * 1024)
    answer = client.post(PATH, content=large)
    assert answer.status_code == 413
    assert "larger than" in answer.json()["error"]
    assert client.post(PATH, content=iter([large])).status_code == 413
    asked = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(large)}\r\nexpect: 100-continue\r\n\r\n".encode()
    assert [status for status, _, _ in talk(served, asked, answers=2)] == [413]
    assert client.post("/predict", json={"model": "trips", "instances": [ROW]}).status_code == 200
    assert predict(client).status_code == 200


def test_more_rows_than_allowed_get_413(client: httpx.Client) -> None:
    """10,000 is the default; a thousand rows are answered in one go."""
    assert predict(client, instances=[ROW] * 10_001).status_code == 413
    many = predict(client, instances=[{**ROW, "distance": number} for number in range(1000)])
    assert many.json()["predictions"][999] == pytest.approx(199.8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b'{"instances": [{"carrier": "UA", "distance": NaN}]}', "not JSON"),
        (b'{"instances": [{"carrier": "UA", "distance": Infinity}]}', "not JSON"),
        (b'{"instances": [{"carrier": "UA", "distance": 1e400}]}', "infinity"),
        (b'{"instances": [{"carrier": "UA", "distance": ' + b"9" * 400 + b"}]}", "infinity"),
        (b'{"instances": [{"carrier": "UA", "distance": 1e39}]}', "finite number of 32 bits"),
        (b'{"instances": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "not JSON"),
        (b'{"instances": [{"carrier": "\xff", "distance": 1}]}', "not JSON"),
        (b'{"instances": [{"carrier": "\\ud800", "distance": 1}]}', "not JSON"),
        (b'{"instances": [{"distance": 1}]}', 'lacks \\"carrier\\"'),
        (b'{"instances": [{"carrier": "UA", "distnace": 1}]}', 'did you mean \\"distance\\"?'),
        (b'{"instances": [{"carrier": null, "distance": 1}]}', "must be a string, not null"),
        (b'{"instances": [{"carrier": "UA", "distance": "1"}]}', "must be a finite number of 32 bits, not the string"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_body_gets_400_that_says_what_is_wrong(client: httpx.Client, content: bytes, message: str) -> None:
    """Never 500, never a stack trace; the same on every protocol's route that takes this format."""
    for path in (PATH, "/invocations"):
        answer = client.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert message in answer.text
        assert "Traceback" not in answer.text


def test_a_string_with_a_nul_is_a_string(client: httpx.Client) -> None:
    """JSON allows it, and so does the model."""
    answer = predict(client, instances=[{**ROW, "carrier": "U\x00A"}])
    assert answer.json() == {"predictions": [0.4]}


def test_rows_that_the_model_cannot_take_get_its_reason(client: httpx.Client) -> None:
    """Values of the right type that the model's own checks refuse."""
    answer = predict(client, instances=[{**ROW, "distance": -1}])
    assert answer.status_code == 400
    assert (
        "version 2 cannot take these rows: assertion failed: [distance must not be negative" in answer.json()["error"]
    )
    assert predict(client).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", PATH, 405),
        ("DELETE", "/v1/models/trips", 405),
        ("POST", "/v1/models/trips/labels/newest:predict", 404),
        ("POST", "/v1/models/trips/versions/999999999:predict", 404),
        ("POST", "/v1/models/../secrets:predict", 404),
        ("GET", "/v1/models/Trips", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/trips/versions/9", 404),
        ("GET", "/v1/" + "x" * 5000, 404),
    ],
)
def test_wrong_paths_and_methods_are_told_so(client: httpx.Client, method: str, path: str, status: int) -> None:
    """A JSON error, short even where the path is long; 405 says what is allowed."""
    answer = client.request(method, path, content=b"{}" if method == "POST" else None)
    assert answer.status_code == status
    assert len(answer.json()["error"]) < 400
    assert ("allow" in answer.headers) == (status == 405)


def test_a_compressed_body_is_refused(client: httpx.Client) -> None:
    """It is not guessed at."""
    answer = client.post(PATH, content=BODY, headers={"content-encoding": "gzip"})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "sent", [b"GARBAGE\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 3, b"POST / HTTP/9.9\r\n\r\n"]
)
def test_what_is_not_http_gets_400(served: Served, client: httpx.Client, sent: bytes) -> None:
    """And the worker goes on."""
    assert [status for status, _, _ in talk(served, sent)] == [400]
    assert predict(client).status_code == 200


def test_a_client_that_goes_away_harms_nobody(served: Served, client: httpx.Client) -> None:
    """In the middle of its body, or before it reads its answer."""
    whole: Any = request()
    for sent in (whole[:-5], whole):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
                connection.sendall(sent)
    assert predict(client).json() == {"predictions": [0.4]}
