"""Routes of the page and of the API."""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import version
from importlib.resources import files
from typing import Annotated, Any, TypeVar

from annotated_types import MaxLen
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from pydantic import BaseModel, ValidationError

from sbirlib.data.strokes import POINTS, STROKES, USUAL_WIDTH
from sbirlib.documents import scalar
from sbirlib.serve.pictures import LARGE, SMALL
from sbirlib.serve.schemas import About, Fault, FeedbackRequest, Fields, Health, Hits, Page, SearchRequest, SimilarRequest
from sbirlib.serve.service import Service

S = TypeVar("S", bound=BaseModel)
JSON = "application/json"
PAGE = str(files("sbirlib.serve") / "page")
FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": Fault, "description": text}
    for status, text in {
        400: "a body that is no image, or a field that no photo has",
        401: "no token, or a wrong one",
        403: "a page of a foreign origin",
        404: "no photo of this id, or judgements that are not kept",
        408: "a body that does not arrive in time",
        410: "a photo whose file is gone",
        413: "a body or an image that is too large",
        415: "a content type that is not taken",
        421: "a Host that is not served",
        503: "too many requests, or an index that cannot be searched now",
        504: "no answer in time",
        507: "a judgement that cannot be kept",
    }.items()
}


async def service_of(request: Request) -> Service:
    """The service of the application, whose index is opened again where it has changed."""
    service: Service = request.app.state.service
    service.follower.follow()
    return service


async def json_alone(request: Request) -> None:
    """Refuse a body that does not say that it is JSON."""
    if (kind := _kind(request)) != JSON:
        raise HTTPException(415, f"this takes {JSON}, not {kind[:100] or 'a body without a type'!r}: send the header Content-Type: {JSON}")


def _kind(request: Request) -> str:
    """The media type of a body, "" where none is told."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


Served = Annotated[Service, Depends(service_of)]
Id = Annotated[str, Path(max_length=20)]
JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}}
JSON_BODY = SearchRequest.model_json_schema(ref_template="#/components/schemas/{model}")
JSON_BODY.pop("$defs")  # of the drawing, which other routes declare
BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": JSON_BODY}, "image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
router = APIRouter(responses=FAULTS)


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(f"{PAGE}/index.html", headers={"Cache-Control": "no-cache"})


@router.get("/about")
async def about(service: Served) -> About:
    """What a client needs to know before it searches."""
    return About(
        photos=await service.photos(),
        stroke_width=service.index.stroke_width or USUAL_WIDTH,
        feedback=service.feedback is not None,
        limits={"k": service.limits.k, "depth": service.limits.depth, "bytes": service.limits.bytes, "strokes": STROKES, "points": POINTS},
        version=version("sbirlib"),
    )


@router.post("/search", response_model=Hits, openapi_extra=BODY)
async def search(
    service: Served,
    request: Request,
    k: Annotated[int, Query(ge=1)] = 24,
    offset: Annotated[int, Query(ge=0)] = 0,
    where: Annotated[list[Annotated[str, MaxLen(10_000)]] | None, Query(max_length=1000)] = None,
) -> Response:
    """The photos that a sketch means, best first.

    The body is JSON with strokes, or an image, for which `k`, `offset` and `where` (FIELD=VALUE) are in the query.
    """
    kind = _kind(request)
    if kind.startswith("image/"):
        hits = await service.search(await request.body(), Page(k=min(k, 10**6), offset=min(offset, 10**6), where=_filter(where or [])))
    elif kind == JSON:
        wanted = _read(SearchRequest, await request.body())
        hits = await service.search(wanted.drawing, wanted)
    else:
        raise HTTPException(415, f"a search takes {JSON} with strokes, or an image, not {kind[:100] or 'a body without a type'!r}")
    return _json(hits)


@router.post("/similar/{id}", response_model=Hits, dependencies=[Depends(json_alone)])
async def similar(service: Served, id: Id, wanted: SimilarRequest) -> Response:
    """The photos like one of the index, best first; with a drawing, those like the photo and like the drawing."""
    return _json(await service.similar(id, wanted.drawing, wanted.share, wanted))


@router.get("/photo/{id}", response_class=Response, responses=JPEG)
async def photo(service: Served, request: Request, id: Id) -> Response:
    """A photo, with at most 2,048 pixels on its longer side."""
    return await _picture(service, request, id, LARGE)


@router.get("/thumbnail/{id}", response_class=Response, responses=JPEG)
async def thumbnail(service: Served, request: Request, id: Id) -> Response:
    """A photo, with at most 256 pixels on its longer side."""
    return await _picture(service, request, id, SMALL)


@router.get("/fields")
async def fields(service: Served) -> Fields:
    """The fields of the photos' records with their commonest values, for filters."""
    return await service.fields()


@router.post("/feedback", status_code=204, dependencies=[Depends(json_alone)])
async def feedback(service: Served, judgement: FeedbackRequest) -> None:
    """Keep whether a photo is the one that a drawing means."""
    await service.judge(judgement.drawing, judgement.id, judgement.answer)


@router.get("/health")
async def health(service: Served) -> Health:
    """Whether the index can be searched."""
    return Health(status="ok", photos=await service.photos())


@router.get("/metrics", response_class=Response)
async def metrics(service: Served) -> Response:
    """Counters and times, in Prometheus's text format."""
    await service.photos()
    return Response(service.engine.meters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _read(schema: type[S], body: bytes) -> S:
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]) from error


def _filter(texts: list[str]) -> dict[str, list[Any]]:
    """A filter from FIELD=VALUE; a value may be the text or the number that it reads as."""
    where: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise HTTPException(422, f"where={text[:100]!r}: expected FIELD=VALUE")
        where.setdefault(name, []).extend(_readings(value))
    return where


def _readings(text: str) -> set[Any]:
    """A text, and the number, true or false that it reads as, if a record can hold it."""
    value = scalar(text)
    return {text} if isinstance(value, int | float) and not abs(value) <= sys.float_info.max else {text, value}


async def _picture(service: Service, request: Request, id: str, side: int) -> Response:
    content = await service.picture(id, side)
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}  # an index that is made anew has other photos of the same ids
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/jpeg", headers=headers)
