"""The guard: hosts, origins, token, sizes, times, numbers, and headers."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from tests.serve.conftest import CROSS

from sbirlib.serve.guard import Guard
from sbirlib.serve.limits import Limits
from sbirlib.serve.metrics import Meters

TOKEN = "a secret of the test"  # no token of a server
JSON = {"Content-Type": "application/json"}


def guarded(**options: Any) -> TestClient:
    """A client of an application that echoes the length of a body, and is slow where it is asked."""
    inner = FastAPI()

    @inner.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    @inner.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(0.4)

    limits = options.pop("limits", Limits())
    return TestClient(Guard(inner, meters=Meters(), limits=limits, **options))


def test_every_answer_has_the_headers_that_keep_a_page_apart(serving: Any) -> None:
    with serving(hosts=["testserver"], frames=["http://notebook:8888"]) as client:
        for path, status in (("/health", 200), ("/nothing", 404), ("/photo/999", 404)):
            headers = client.get(path).headers
            assert client.get(path).status_code == status
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'self' http://notebook:8888" in policy
        refused = client.get("/health", headers={"Host": "evil.example"})
        assert (refused.status_code, refused.headers["x-content-type-options"]) == (421, "nosniff")


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 405), ("localhost:9000", 405), ("LOCALHOST", 405), ("127.0.0.1:80", 405), ("[::1]:80", 405), ("localhost.evil.example", 421),
     ("evil.example", 421), ("", 421), ("localhost@evil.example", 421), ("[", 421)],
)  # fmt: skip
def test_only_known_hosts_are_served(host: str, status: int) -> None:
    assert guarded(hosts=["localhost"]).get("/length", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://testserver"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://testserver.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://friend.example"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_pages_of_other_origins_are_kept_out(headers: dict[str, str], status: int) -> None:
    assert guarded(origins=["http://friend.example"]).post("/length", content=b"abc", headers=headers).status_code == status


def test_a_friendly_origin_gets_the_headers_that_browsers_ask_for(serving: Any) -> None:
    with serving(origins=["http://friend.example"]) as client:
        ask = {"Origin": "http://friend.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        response = client.options("/search", headers=ask)
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, "http://friend.example")
        assert client.options("/search", headers={**ask, "Origin": "http://evil.example"}).status_code == 403
    with serving() as client:
        assert "access-control-allow-origin" not in client.get("/health").headers


def test_a_token_is_needed_and_compared_in_constant_time(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    plain = secrets.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return plain(one, other)

    monkeypatch.setattr("sbirlib.serve.guard.secrets.compare_digest", counted)
    with serving(token=TOKEN) as client:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Cookie": "sbirlib=wrong"},
            {"Cookie": '="'},
        ):
            response = client.get("/health", headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert TOKEN not in response.text
        assert client.get("/health", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/?token=wrong", follow_redirects=False).status_code == 401
        signed = client.get("/", params={"token": TOKEN}, follow_redirects=False)
        assert (signed.status_code, signed.headers["location"], signed.headers["cache-control"]) == (303, "/", "no-store")
        assert {"HttpOnly", "SameSite=Strict"} <= set(signed.headers["set-cookie"].split("; "))
        assert client.post("/search", json={"drawing": CROSS}).status_code == 200, "the cookie is enough"
    assert len(compared) >= 8


def test_bodies_are_bounded_in_size_whether_announced_or_not() -> None:
    client = guarded(limits=Limits(bytes=1000))
    assert client.post("/length", content=b"x" * 1000).json() == 1000
    for content in (b"x" * 1001, iter([b"x" * 600, b"x" * 600])):
        response = client.post("/length", content=content)
        assert (response.status_code, response.headers["connection"]) == (413, "close")
    assert client.post("/length", content=b"x", headers={"Content-Length": "-1"}).status_code == 413


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    assert guarded(limits=Limits(seconds=0.2)).get("/slow").status_code == 504


def test_a_client_that_sends_no_body_is_told_after_a_while() -> None:
    messages: list[Any] = []

    async def silent() -> Any:
        await asyncio.sleep(5)

    async def send(message: Any) -> None:
        messages.append(message)

    guard = guarded(limits=Limits(body_seconds=0.1)).app
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/length",
        "headers": [(b"host", b"testserver"), (b"content-length", b"9")],
        "query_string": b"",
    }

    async def request() -> None:
        await guard(scope, silent, send)

    with ThreadPoolExecutor(1) as pool:  # the main thread may have a loop, that of the browser's tests
        pool.submit(asyncio.run, request()).result()
    assert messages[0]["status"] == 408


def test_more_requests_than_can_be_worked_on_are_sent_away() -> None:
    client = guarded(limits=Limits(requests=2))
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(client.get("/slow"))) for _ in range(6)]
    with client:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503, 503]
        assert next(answer for answer in answers if answer.status_code == 503).headers["retry-after"] == "1"
        assert client.get("/slow").status_code == 200


def test_the_log_has_requests_without_queries(serving: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sbirlib")
    with serving(token=TOKEN) as client:
        client.get("/health", params={"token": TOKEN})
    lines = [record.getMessage() for record in caplog.records if "/health" in record.getMessage()]
    assert lines
    assert not [line for line in lines if TOKEN in line or "?" in line]
