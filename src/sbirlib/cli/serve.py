"""Verb that serves an index: a page to draw on, and the API under it."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from sbirlib.cli.options import Device, Verify
from sbirlib.errors import InputError

TOKEN = "SBIRLIB_TOKEN"  # environment variable
NAMES = ("localhost",)
EVERY = ("0.0.0.0", "::")  # all addresses of this machine, which it is reached at by its name


def serve(
    index: Annotated[Path, typer.Argument(help="folder of an index, as `sbirlib index` made it")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free")] = 8000,
    host: Annotated[str, typer.Option(help="address to listen at; any but this machine's own (127.0.0.1) needs a token")] = "127.0.0.1",
    allow_host: Annotated[list[str] | None, typer.Option(help="another name that the server is reached by; repeatable")] = None,
    allow_origin: Annotated[list[str] | None, typer.Option(help="an origin whose pages may use the API (CORS); repeatable")] = None,
    feedback: Annotated[Path | None, typer.Option(help="FILE.jsonl that keeps which photos were meant, asked on the page")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder of thumbnails; in the user's cache folder unless given")] = None,
    verify: Verify = None,
    device: Device = None,
) -> None:
    """Open a page to draw on, over an index; Ctrl-C ends it.

    On another address than this machine's own, a token is needed: that in SBIRLIB_TOKEN, or one that is printed.
    """
    from sbirlib import serve as service
    from sbirlib.serve.access import check_token

    local = _is_loopback(host)
    own = os.environ.get(TOKEN)
    if own is not None:
        check_token(own, f"the token in {TOKEN}")
    token = own or (None if local else secrets.token_urlsafe(24))
    names = [*NAMES, *([] if local else [socket.gethostname(), host]), *(allow_host or [])]
    from sbirlib.serve.server import listen, run

    with listen(host, port) as sock:
        application = service.app(
            index, token=token, hosts=names, origins=allow_origin or (), feedback=feedback, cache=cache, verify=verify, device=device
        )
        number = sock.getsockname()[1]
        name = socket.gethostname() if host in EVERY else host
        address = f"[{name}]" if ":" in name else name
        secret = "" if token is None else f"?token={'$' + TOKEN if own else token}"
        typer.echo(f"{len(application.state.service.index)} photos; draw at http://{address}:{number}/{secret} (Ctrl-C ends)")
        with suppress(KeyboardInterrupt):
            run(application, sock)
    typer.echo("ended")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        if not host or any(c.isspace() for c in host):
            raise InputError(f"--host {host!r}: expected an address or a name, such as 127.0.0.1 or 0.0.0.0") from error
        return False
