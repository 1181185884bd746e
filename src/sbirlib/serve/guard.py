"""Guard of an ASGI application: hosts, origins, token, size and time of a body, number of requests, and headers of every answer."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from sbirlib.errors import printable
from sbirlib.serve.access import host_of
from sbirlib.serve.limits import Limits
from sbirlib.serve.metrics import Meters

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)
COOKIE = "sbirlib"
METHODS = ("GET", "POST", "HEAD", "OPTIONS")  # that are counted by their names
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=(), usb=()",
    "Cache-Control": "no-store",  # unless a route says otherwise
}


class Refusal(Exception):
    """A request that is not let through, with its status and the reason."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


class Guard:
    """ASGI middleware. `hosts` are the names in a Host header that are served, beside any IP address; None serves every name.

    Without a token everyone who reaches the port may search. A page of another origin may not, unless it is one of `origins`.
    `frames` are the origins that may show the page in a frame.
    """

    def __init__(
        self,
        application: Application,
        *,
        meters: Meters,
        limits: Limits,
        token: str | None = None,
        hosts: Collection[str] | None = None,
        origins: Collection[str] = (),
        frames: Collection[str] = (),
    ) -> None:
        self.application, self.meters, self.limits = application, meters, limits
        self.token, self.origins = token, origins
        self.hosts = None if hosts is None else {name.lower() for name in hosts}
        self.headers = {**HEADERS, "Content-Security-Policy": "; ".join([POLICY, " ".join(["frame-ancestors 'self'", *frames])])}
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the application starts or ends; there is no socket
            await self.application(scope, receive, send)
            return
        start, status = time.monotonic(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in self.headers.items() if name.lower().encode() not in own),
                ]
            await send(message)

        try:
            await self._let_through(scope, receive, answer)
        except Refusal as refusal:
            if not status:  # of an answer that has begun the connection ends
                await _refuse(refusal, answer)
        except Exception:
            if not status:
                await _refuse(Refusal(500, "an unexpected error, which the server's log tells"), answer)
            raise  # for the server to log
        finally:
            self._observe(scope, status, time.monotonic() - start)

    async def _let_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        first = reversed(scope["headers"])  # of a header that is there twice the first counts, as for the application
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in first}
        self._check_host(headers)
        self._check_origin(scope, headers)
        self._check_token(scope, headers)
        if self._at_work >= self.limits.requests:
            raise Refusal(503, f"busy: {self.limits.requests} requests are at work; try again in a second", **{"Retry-After": "1"})
        self._at_work += 1
        try:
            body = await self._body(headers, receive)
            self._check_values(headers, body)
            async with asyncio.timeout(self.limits.seconds):
                await self.application(scope, _replay(body, receive), send)
        except TimeoutError as error:
            raise Refusal(504, f"no answer within {self.limits.seconds:g} seconds") from error
        finally:
            self._at_work -= 1

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Log and count an answer; a drawing is in the body or in the page's fragment, so no log has it."""
        logger.info("%s %s %d %.0f ms", scope["method"], printable(scope["path"]), status, 1000 * seconds)
        route = getattr(scope.get("route"), "path", "other")  # the pattern, as an id in each name would make endless counters
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.meters.requests.labels(method, route, status).inc()
        self.meters.seconds.labels(route).observe(seconds)

    def _check_host(self, headers: dict[str, str]) -> None:
        name = host_of(headers.get("host", ""))
        if self.hosts is not None and name not in self.hosts and not _is_address(name):
            raise Refusal(421, f"this server is not {name[:100]!r}: start it with --allow-host NAME to be reached by that name")

    def _check_origin(self, scope: Scope, headers: dict[str, str]) -> None:
        """Refuse requests that a page of another site makes in a visitor's browser."""
        origin = headers.get("origin")
        foreign = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
        if origin is not None and origin != "null":
            foreign = origin.partition("://")[2] != headers.get("host")
        if (foreign or origin == "null") and origin not in self.origins:
            raise Refusal(403, "a page of another origin may not use this server: start it with --allow-origin ORIGIN if it should")

    def _check_token(self, scope: Scope, headers: dict[str, str]) -> None:
        if self.token is None or (scope["method"] == "OPTIONS" and headers.get("origin") in self.origins):
            return
        plus_kept = scope.get("query_string", b"").decode("latin-1").replace("+", "%2B")  # a token has no space
        query = parse_qs(plus_kept).get("token", [""])[0]
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        cookie = hashlib.sha256(self.token.encode()).hexdigest()  # letters that need no quoting, and not the token itself
        name = f"{COOKIE}-{(scope.get('server') or ['', ''])[1]}"  # browsers send the cookies of one port to all ports
        if query and scope["method"] == "GET":
            if not _equal(query, self.token):
                raise Refusal(401, "this token is not the server's: open the address that it printed when it started")
            root, secure = scope.get("root_path", ""), "; Secure" if scope.get("scheme") == "https" else ""
            set_cookie = f"{name}={cookie}; HttpOnly; SameSite=Strict; Path={root or '/'}{secure}"
            raise Refusal(303, "signed in", Location=f"{root}/", **{"Set-Cookie": set_cookie})
        by_header = scheme.lower() == "bearer" and _equal(bearer.strip(), self.token)
        if not by_header and not any(_equal(value, cookie) for value in _cookies(headers.get("cookie", ""), name)):
            raise Refusal(
                401,
                "a token is needed: open the address that the server printed when it started, or send it as Authorization: Bearer TOKEN",
                **{"WWW-Authenticate": "Bearer"},
            )

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes:
        """The whole body, within the limits of size and time."""
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.limits.bytes:
            raise Refusal(413, f"the body is larger than {self.limits.bytes} bytes", Connection="close")
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "the client has gone", Connection="close")
                    body += message.get("body", b"")
                    if len(body) > self.limits.bytes:
                        raise Refusal(413, f"the body is larger than {self.limits.bytes} bytes", Connection="close")
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            raise Refusal(408, f"the body did not arrive within {self.limits.body_seconds:g} seconds", Connection="close") from error

    def _check_values(self, headers: dict[str, str], body: bytes) -> None:
        """Refuse JSON of too many values, of which a comma stands before each but the first of a list or an object."""
        if "json" in headers.get("content-type", "").lower() and body.count(b",") > self.limits.values:
            raise Refusal(413, f"the body has more than {self.limits.values} values")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, as an application receives it; then whatever the server says next."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _refuse(refusal: Refusal, send: Send) -> None:
    content = json.dumps({"detail": refusal.detail}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **refusal.headers}
    encoded = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})


def _is_address(name: str) -> bool:
    """Whether a host is an IP address, which no other site's name can be made to lead to."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _cookies(header: str, name: str) -> list[str]:
    """The values of the cookies of a name; those of other servers of the machine may be of any form."""
    pairs = (cookie.partition("=") for cookie in header.split(";"))
    return [value.strip() for own, _, value in pairs if own.strip() == name]


def _equal(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())
