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
from starlette.websockets import WebSocketDisconnect
from tests.serve.conftest import CROSS

from sbirlib.errors import InputError
from sbirlib.serve import app
from sbirlib.serve.guard import Guard
from sbirlib.serve.limits import Limits
from sbirlib.serve.metrics import Meters

TOKEN = "a-secret-of-the-test"  # no token of a server
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
        client.app.state.service.engine = None
        failed = client.get("/health")
        assert (failed.status_code, failed.headers["x-content-type-options"]) == (500, "nosniff")
        assert failed.json() == {"detail": "an unexpected error, which the server's log tells"}


def test_answers_stay_in_no_cache_but_what_a_route_lets_one_keep(serving: Any) -> None:
    with serving(token=TOKEN) as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        for path in ("/fields", "/about", "/health", "/metrics", "/openapi.json", "/nothing"):
            assert client.get(path).headers["cache-control"] == "no-store"
        assert client.post("/search", json={"drawing": CROSS}).headers["cache-control"] == "no-store"
        assert client.get("/thumbnail/0").headers["cache-control"] == "private, no-cache", "another index may have another photo of this id"


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 405), ("localhost:9000", 405), ("LOCALHOST", 405), ("127.0.0.1:80", 405), ("[::1]:80", 405), ("localhost.evil.example", 421),
     ("evil.example", 421), ("", 421), ("localhost@evil.example", 421), ("[", 421), ("evil.example@localhost", 421),
     ("evil.example\\@localhost", 421), ("localhost/evil.example", 421), ("localhost.", 405)],
)  # fmt: skip
def test_only_known_hosts_are_served(host: str, status: int) -> None:
    assert guarded(hosts=["LocalHost"]).get("/length", headers={"Host": host}).status_code == status


def test_of_a_header_that_is_there_twice_the_first_counts() -> None:
    client, json_first = (
        guarded(hosts=["localhost"], limits=Limits(values=3)),
        [("Content-Type", "application/json"), ("Content-Type", "text/plain")],
    )
    assert client.get("/length", headers=[("Host", "evil.example"), ("Host", "localhost")]).status_code == 421
    assert client.post("/length", headers=[("Host", "localhost"), *json_first], content=b"[1,2,3,4,5]").status_code == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://testserver"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://testserver.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": ""}, 403),
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
            {"Cookie": "sbirlib-80=wrong"},
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
    assert len(compared) >= 6


def test_a_token_has_a_length_and_a_form_that_headers_hold(folder: Any) -> None:
    for token, fault in (
        ("", "has 0 characters"),
        ("short", "has 5 characters"),
        ("a token with spaces", "no header can hold"),
        ("ü" * 16, "no header"),
    ):
        with pytest.raises(InputError, match=fault):
            app(folder, token=token)


def test_names_and_origins_that_no_browser_sends_are_refused(folder: Any) -> None:
    for host in ("http://draw.example", "draw.example:8000", "draw.example/", ""):
        with pytest.raises(InputError, match="no name of a host"):
            app(folder, hosts=[host])
    for origin in ("friend.example", "http://friend.example/", "*", "http://"):
        with pytest.raises(InputError, match="no origin"):
            app(folder, origins=[origin])


def test_a_browser_is_signed_in_beside_other_servers_of_the_machine(serving: Any) -> None:
    """Cookies of one port are sent to all others: a second server with its own token, and programs with cookies of any form."""
    plus = "a+token/of+the-tests=="
    with serving(token=TOKEN) as one, serving(token=plus) as other:
        one.base_url, other.base_url = httpx.URL("http://testserver:8000"), httpx.URL("http://testserver:8001")
        other.cookies = one.cookies
        one.cookies.set("session", '{"a": [1, 2]}')
        assert one.get(f"/?token={TOKEN}", follow_redirects=False).status_code == 303
        assert other.get(f"/?token={plus}", follow_redirects=False).status_code == 303
        assert [client.get("/health").status_code for client in (one, other)] == [200, 200]


def test_there_is_no_socket(serving: Any) -> None:
    with serving(token=TOKEN) as client:
        for path in ("/", "/search", "/page/main.js"):
            with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
                pass


def test_json_of_very_many_values_is_refused_before_it_is_read() -> None:
    client = guarded(limits=Limits(values=10))
    for content, status in ((b"[" + b"1," * 10 + b"1]", 200), (b"[" + b"1," * 11 + b"1]", 413)):
        for kind in ("application/json", "Application/JSON; charset=utf-8", "application/problem+json"):
            assert client.post("/length", content=content, headers={"Content-Type": kind}).status_code == status
    assert client.post("/length", content=b"," * 100, headers={"Content-Type": "image/png"}).status_code == 200


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
        client.get("/health%0asbirlib: GET /forged 200 1 ms%1b[31m")
    lines = [record.getMessage() for record in caplog.records if "/health" in record.getMessage()]
    assert len(lines) == 2
    assert not [line for line in lines if TOKEN in line or "?" in line or not line.isprintable()]


def test_numbers_are_counted_for_known_methods_and_failed_requests(serving: Any) -> None:
    meters = Meters()
    inner = FastAPI()

    @inner.get("/fault")
    async def fault() -> None:
        raise RuntimeError("a fault of the test")

    client = TestClient(Guard(inner, meters=meters, limits=Limits()), raise_server_exceptions=False)
    client.get("/fault")
    for method in ("BREW", "BREW2"):
        client.request(method, "/fault")
    text = meters.text().decode()
    assert 'sbirlib_requests_total{method="GET",route="/fault",status="500"} 1.0' in text
    assert 'method="other",route="/fault",status="405"} 2.0' in text
