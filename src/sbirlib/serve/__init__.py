"""Draw to search, as a web service: a page to draw on and an HTTP API over one index. Needs the extra `serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sbirlib.errors import InputError

if TYPE_CHECKING:
    from fastapi import FastAPI


def app(index: Any, **options: Any) -> FastAPI:
    """The ASGI application over an index, a folder or a SearchIndex; options are those of `sbirlib.serve.application.make`.

    >>> from fastapi.testclient import TestClient
    >>> client = TestClient(app(pipeline.index("photos", progress=False)))
    >>> client.get("/health").json()
    {'status': 'ok', 'photos': 36}
    """
    try:
        from sbirlib.serve.application import make
    except ImportError as error:
        raise InputError(f"the service needs more packages ({error.name} is missing): pip install 'sbirlib[serve]'") from error
    return make(index, **options)
