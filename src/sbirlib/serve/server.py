"""The server that runs the application: uvicorn, with a deadline for connections that ask for nothing."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI

from sbirlib.errors import InputError

CONNECTIONS, BACKLOG = 1024, 2048
HEADER_SECONDS = 10  # for the head of a request to arrive
GRACE = 10  # seconds that requests at work have when the server ends


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; raises InputError where it cannot be had, before anything is served."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so that asyncio turns Nagle's algorithm off: 40 ms an answer
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)  # so that whoever reads the address can connect at once
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"port {port} of {host} cannot be had ({reason}): choose another with --port, or --port 0 for any free one"
        ) from error
    return sock


def run(application: FastAPI, sock: socket.socket) -> None:
    """Serve at a socket until Ctrl-C or SIGTERM; requests at work are finished."""
    server_of(application).run(sockets=[sock])


def server_of(application: FastAPI) -> uvicorn.Server:
    """The server of an application, which `run(sockets=...)` starts and `should_exit = True` ends."""
    config = uvicorn.Config(
        application,
        access_log=False,  # the guard's own has no query, in which a token may be
        log_level="warning",
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
    )
    config.load()
    config.http_protocol_class = type("Impatient", (_Deadline, config.http_protocol_class), {})
    return uvicorn.Server(config)


class _Deadline:
    """Mixin of uvicorn's protocols: a connection whose first request does not begin in time is closed."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        asyncio.get_running_loop().call_later(HEADER_SECONDS, self._close_idle, transport)

    def _close_idle(self, transport: Any) -> None:
        if getattr(self, "cycle", None) is None and not transport.is_closing():
            transport.close()
