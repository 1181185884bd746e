"""Forms of what says who may use a server: a token, names of hosts, and origins."""

from __future__ import annotations

import re
from collections.abc import Collection

from sbirlib.errors import InputError

SHORTEST = 16  # characters of a token
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what a header can hold (RFC 6750, section 2.1)
HOST = re.compile(r"(?:\[([^\[\]\s@/\\?#]+)\]|([^\[\]\s@/\\?#:]+))(?::\d*)?")  # a header's: an IPv6 address in brackets, or a name; a port
NAME = re.compile(r"[^\[\]\s@/\\?#:]+|[0-9A-Fa-f:.]+(%\w+)?")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s@/\\?#]+")


def check_token(token: str, name: str) -> None:
    """Raise InputError for a token that is short, or that no header can hold; `name` says which token it is."""
    if len(token) < SHORTEST:
        raise InputError(f"{name} has {len(token)} characters: take {SHORTEST} or more, or leave it out")
    if not TOKEN.fullmatch(token):
        raise InputError(
            f"{name} has characters that no header can hold: take letters, digits and - . _ ~ + /, as `openssl rand -hex 16` does"
        )


def check_access(token: str | None, hosts: Collection[str], origins: Collection[str]) -> None:
    """Raise InputError for a token as above, a name that no host has, such as a URL, and an origin that no browser sends."""
    if token is not None:
        check_token(token, "the token")
    for name in hosts:
        if not NAME.fullmatch(name):
            raise InputError(f"{name!r} is no name of a host: give it without http:// and without a port, such as draw.example.org")
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise InputError(f"{origin!r} is no origin: give scheme, host and port, without a path, such as https://example.org")


def host_of(header: str) -> str:
    """The name or address in a Host header, without the port; the header itself where it is none.

    >>> host_of("LOCALHOST:8000"), host_of("[::1]:8000")
    ('localhost', '::1')
    """
    match = HOST.fullmatch(header.lower())
    return (match[1] or match[2]).rstrip(".") if match else header
