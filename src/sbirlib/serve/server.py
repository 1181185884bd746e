"""The server that runs the application: uvicorn, which ends connections that ask for nothing or take nothing."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI

from sbirlib.errors import InputError

CONNECTIONS, BACKLOG = 1024, 2048
IDLE_SECONDS = 10  # between two looks at a connection
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
    application.state.service.engine.warm_up()
    server_of(application).run(sockets=[sock])


def server_of(application: FastAPI) -> uvicorn.Server:
    """The server of an application, which `run(sockets=...)` starts and `should_exit = True` ends."""
    config = uvicorn.Config(
        application,
        access_log=False,  # the guard's own has no query, in which a token may be
        log_level="warning",
        server_header=False,
        ws="none",  # there is no socket to open, whatever is installed
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
    )
    config.load()
    config.http_protocol_class = type("Watched", (_Watched, config.http_protocol_class), {})
    return uvicorn.Server(config)


class _Watched:
    """Mixin of uvicorn's protocols: looks at a connection every `IDLE_SECONDS`, and ends one that is as it was at the last look.

    That is one whose client has not sent the head of its first or next request, or does not take the rest of an answer; a request at work
    has the guard's own deadlines.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self._look_later(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._look.cancel()
        super().connection_lost(error)  # type: ignore[misc]

    def _look_later(self, transport: Any) -> None:
        state = getattr(self, "cycle", None), transport.is_closing(), transport.get_write_buffer_size()
        self._look = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end_if, transport, *state)

    def _end_if(self, transport: Any, cycle: Any, closing: bool, waiting: int) -> None:
        """End the connection where it still closes, has begun no request since `cycle`, which is done, or takes none of the `waiting` bytes."""
        done = cycle is None or cycle.response_complete
        deaf = waiting > 0 and waiting == transport.get_write_buffer_size()  # an answer that was given up would wait for it without end
        if (closing or done or deaf) and cycle is getattr(self, "cycle", None):
            transport.abort()
        else:
            self._look_later(transport)
