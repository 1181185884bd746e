"""`sbirlib serve` as a user types it, and as others abuse it: sockets, kills, hosts, hostile requests over the whole description."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from hypothesis import given as hypothesis_given
from hypothesis.errors import Unsatisfiable
from tests.serve.conftest import CROSS

from sbirlib.serve import app
from sbirlib.serve.limits import Limits
from sbirlib.serve.server import listen, server_of

SERVE = [sys.executable, "-c", "from sbirlib.cli import main; main()", "serve"]
SECRET = "a-token-of-the-tests-alone"


@contextmanager
def served(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """A running server: its process, its port and the line that it printed."""
    process = subprocess.Popen(
        [*SERVE, *arguments, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        port = re.search(r":(\d+)/", line)
        assert port, (line, process.stderr.read() if process.poll() is not None else "")
        yield process, int(port[1]), line
    finally:
        process.kill()
        process.communicate()


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    return response.status, response.read()


def test_it_serves_until_it_is_interrupted(folder: Path, tmp_path: Path) -> None:
    with served(str(folder), "--cache", str(tmp_path / "cache")) as (process, port, line):
        assert f"18 photos; draw at http://127.0.0.1:{port}/ (Ctrl-C ends)" in line
        assert ask(port, "POST", "/search", {"drawing": CROSS})[0] == 200
        assert ask(port, "GET", "/", Host="evil.example")[0] == 421
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "ended\n")
        assert "POST /search 200" in errors
        assert "Traceback" not in errors


def test_answers_on_an_open_connection_do_not_wait_for_an_acknowledgement(folder: Path) -> None:
    """Nagle's algorithm would hold the second part of each answer for 40 ms."""
    with served(str(folder)) as (_, port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        times = []
        for _ in range(30):
            start = time.monotonic()
            connection.request("GET", "/health")
            assert connection.getresponse().read()
            times.append(time.monotonic() - start)
        assert sorted(times)[10] < 0.03, times


def test_a_port_in_use_and_an_index_that_is_gone_are_told(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        process = subprocess.run([*SERVE, str(folder), "--port", port], capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert re.fullmatch(
        rf"sbirlib: port {port} of 127.0.0.1 cannot be had \(.*\): choose another with --port.*\n", process.stderr.splitlines(True)[-1]
    )
    process = subprocess.run([*SERVE, str(tmp_path / "none")], capture_output=True, text=True, check=False)
    assert (process.returncode, "is not an index" in process.stderr) == (2, True)


def test_another_address_needs_a_token(folder: Path) -> None:
    with served(str(folder), "--host", "0.0.0.0") as (_, port, line):
        token = re.search(r"\?token=(\S{32})", line)
        assert token
        assert ask(port, "GET", "/health")[0] == 401
        assert ask(port, "GET", "/health", Authorization=f"Bearer {token[1]}")[0] == 200
    with served(str(folder), SBIRLIB_TOKEN=SECRET) as (_, port, line):
        assert SECRET not in line
        assert ask(port, "GET", "/health")[0] == 401
        assert ask(port, "GET", "/health", Authorization=f"Bearer {SECRET}")[0] == 200
    short = subprocess.run([*SERVE, str(folder)], capture_output=True, text=True, check=False, env={**os.environ, "SBIRLIB_TOKEN": "x"})
    assert (short.returncode, "the token in SBIRLIB_TOKEN has 1 characters: take 16 or more" in short.stderr) == (2, True)


def test_a_server_that_is_killed_starts_again_with_every_photo(folder: Path, photos: Path) -> None:
    with served(str(folder)) as (process, port, _):
        answer = ask(port, "POST", "/search", {"drawing": CROSS, "k": 18})
        process.kill()
        process.wait()
    with served(str(folder)) as (_, port, _):
        assert ask(port, "POST", "/search", {"drawing": CROSS, "k": 18}) == answer


def test_connections_that_say_nothing_or_too_much_do_not_keep_others_out(folder: Path) -> None:
    with served(str(folder)) as (_, port, _):
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(1000)]
        try:
            for one in silent[:500]:
                one.sendall(b"GET / HT")
            for one in silent[500:700]:
                one.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx")
            assert ask(port, "GET", "/health") == (200, b'{"status":"ok","photos":18}')
            head = b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
            assert raw(port, head).startswith(b"HTTP/1.1 4") or not raw(port, head)
            assert raw(port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").startswith(b"HTTP/1.1 400")
            assert raw(port, b"GET /photo/../../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 404")
            assert raw(port, b"GET /page/../../../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 404")
            assert raw(port, b"GET /page/..%2f..%2f__init__.py HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 404")
            wait_until(lambda: all(closed(one) for one in silent[:700]), 25)
            assert ask(port, "POST", "/search", {"drawing": CROSS})[0] == 200
        finally:
            for one in silent:
                one.close()


HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_a_connection_is_ended_that_begins_no_further_request_or_takes_no_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sbirlib.serve.server.IDLE_SECONDS", 0.5)
    sock, limits = listen("127.0.0.1", 0), Limits(seconds=1.0)
    server, port = server_of(app(folder, limits=limits)), sock.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    connections = []
    for more in (b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"\r\n"):
        connections.append(socket.create_connection(("127.0.0.1", port), timeout=20))
        connections[-1].sendall(HEALTH)
        assert connections[-1].recv(4096).startswith(b"HTTP/1.1 200")
        connections[-1].sendall(more)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", port))
    deaf.settimeout(0.2)
    with suppress(TimeoutError):
        deaf.sendall(b"GET /page/style.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100_000)
    wait_until(lambda: not server.server_state.connections, 20)
    busy = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for _ in range(15):
        busy.request("GET", "/health")
        assert busy.getresponse().read()
        time.sleep(0.1)
    server.should_exit = True
    thread.join()
    for connection in (*connections, deaf):
        connection.close()


def raw(port: int, content: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            connection.sendall(content)
            return connection.recv(4096)
        except ConnectionError:
            return b""


def closed(connection: socket.socket) -> bool:
    """Whether the server has ended a connection, after an answer or without one."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_million_strokes_and_a_bomb_of_an_image_are_refused(client: TestClient) -> None:
    stroke = b'{"points":[[0.1,0.1],[0.2,0.2]]},'
    many = b'{"drawing":{"strokes":[' + stroke * 1_000_000 + b"]}}"
    assert client.post("/search", content=many, headers={"Content-Type": "application/json"}).status_code == 413
    fewer = b'{"drawing":{"strokes":[' + (stroke * 20_000)[:-1] + b"]}}"
    assert client.post("/search", content=fewer, headers={"Content-Type": "application/json"}).status_code == 422
    deep = b'{"drawing":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert client.post("/search", content=deep, headers={"Content-Type": "application/json"}).status_code == 422
    header = b"P6 100000 100000 255\n"
    assert client.post("/search", content=header + b"\0" * 64, headers={"Content-Type": "image/x-portable-pixmap"}).status_code in (
        400,
        413,
    )


def test_nothing_that_the_description_allows_or_forbids_makes_the_server_fail(serving: Any, tmp_path: Path) -> None:
    """Schemathesis calls every route with valid and with invalid values: no answer is a 5xx, and each is one that the description names."""
    with serving(feedback=tmp_path / "judgements.jsonl") as client:
        schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
        routes: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
        assert len(routes) == 9
        statuses: Counter[int] = Counter()
        for route, mode in itertools.product(routes, schemathesis.GenerationMode):
            with suppress(Unsatisfiable):  # a route without parameters has no invalid ones

                @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
                @hypothesis_given(route.as_strategy(generation_mode=mode))
                def call(case: Any) -> None:
                    response = case.call()
                    statuses[response.status_code] += 1
                    assert response.status_code < 500, (case, response.text)
                    assert str(response.status_code) in case.operation.definition.raw["responses"] or response.status_code in (304, 405)

                call()
    assert {200, 404, 422} <= statuses.keys(), statuses
