"""The ASGI application over one index: its parts, and its routes."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from sbirlib.data.judgements import Judgements
from sbirlib.device import find_device
from sbirlib.files import user_cache
from sbirlib.opening import open_index
from sbirlib.search import SearchIndex
from sbirlib.serve.access import check_access
from sbirlib.serve.engine import MOST, Engine
from sbirlib.serve.follower import Follower, stamp_of
from sbirlib.serve.guard import Guard
from sbirlib.serve.limits import Limits
from sbirlib.serve.metrics import Meters
from sbirlib.serve.pictures import Pictures
from sbirlib.serve.routes import PAGE, router
from sbirlib.serve.service import Service

SHOWN = 5  # faults in one answer


def make(
    index: SearchIndex | str | Path,
    *,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    origins: Collection[str] = (),
    frames: Collection[str] = (),
    feedback: str | Path | None = None,
    cache: str | Path | None = None,
    limits: Limits | None = None,
    device: str | None = None,
    verify: bool | None = None,
    gather: bool = True,
) -> FastAPI:
    """The application over an index: a folder, which is opened again whenever another process has changed it, or a SearchIndex.

    Mount it in any ASGI application, or run it with any ASGI server; `sbirlib serve` does. Raises InputError where the index cannot be opened.

    Args:
        index: folder of a saved index, or an index
        token: a secret that every request needs, as the cookie that `/?token=...` sets or as `Authorization: Bearer`; none by default
        hosts: names in the Host header that are served, beside IP addresses; any by default
        origins: other origins whose pages may use the API (CORS)
        frames: other origins whose pages may show the page in a frame
        feedback: file of JSON lines to which judgements of results are appended; none are taken by default
        cache: folder of thumbnails; `sbirlib/pictures` in the user's cache folder by default
        limits: limits of requests
        device: device of the encoder, the GPU if there is one
        verify: hold all files of the index against their digests; the small ones by default
        gather: encode the queries that wait together in one call
    """
    check_access(token, hosts or (), origins)
    service = _service(index, feedback, cache, limits or Limits(), device, verify, gather=gather)
    application = FastAPI(title="sbirlib", version=version("sbirlib"), docs_url=None, redoc_url=None)
    application.state.service = service
    application.include_router(router)
    application.mount("/page", _Page(directory=PAGE), name="page")
    application.add_exception_handler(RequestValidationError, _invalid)
    if origins:
        application.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            allow_credentials=token is not None,
        )
    application.add_middleware(
        Guard, meters=service.engine.meters, limits=service.limits, token=token, hosts=hosts, origins=origins, frames=frames
    )
    return application


def _service(
    index: SearchIndex | str | Path,
    feedback: str | Path | None,
    cache: str | Path | None,
    limits: Limits,
    device: str | None,
    verify: bool | None,
    *,
    gather: bool,
) -> Service:
    folder = None if isinstance(index, SearchIndex) else Path(index)
    stamp = stamp_of(folder)
    opened = index if isinstance(index, SearchIndex) else open_index(index, verify=verify)
    engine = Engine(opened, find_device(device), Meters(), most=MOST if gather else 1)
    pictures = Pictures(Path(cache) if cache is not None else user_cache() / "pictures")
    follower = Follower(folder, stamp, engine, verify=verify)
    return Service(engine, follower, pictures, None if feedback is None else Judgements(feedback), limits)


class _Page(StaticFiles):
    """Files of the page, which browsers ask for anew, so that those of two versions are not mixed."""

    async def get_response(self, path: str, scope: Any) -> Response:
        """A file, to be held against its ETag before it is used again."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def _invalid(_: Request, error: Exception) -> Response:
    """The first faults of a body, without the body itself, which may be large."""
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    return JSONResponse({"detail": [{key: fault[key] for key in ("loc", "msg", "type")} for fault in faults[:SHOWN]]}, 422)
