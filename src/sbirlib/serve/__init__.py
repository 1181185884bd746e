"""Draw to search, as a web service: a page to draw on and an HTTP API over one index. Needs the extra `serve`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sbirlib.errors import InputError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from sbirlib.search import SearchIndex
    from sbirlib.serve.notebook import Window


def app(index: Any, **options: Any) -> FastAPI:
    """The ASGI application over an index, a folder or a SearchIndex; options are those of `sbirlib.serve.application.make`.

    >>> from fastapi.testclient import TestClient
    >>> client = TestClient(app(pipeline.index("photos", progress=False)))
    >>> client.get("/health").json()
    {'status': 'ok', 'photos': 36}
    """
    with _extra():
        from sbirlib.serve.application import make
    return make(index, **options)


def window(index: SearchIndex) -> Window:
    """The page over an index in this process, for a notebook: `SearchIndex.draw`."""
    with _extra():
        from sbirlib.serve.notebook import Window
    return Window(index)


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InputError(f"the service needs more packages ({error.name} is missing): pip install 'sbirlib[serve]'") from error
