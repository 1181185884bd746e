"""The work behind the routes: drawings and photos become queries, results become answers."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from fastapi import HTTPException
from PIL import Image

from sbirlib.data.images import FORMATS, upright
from sbirlib.data.judgements import Judgements, Verdict
from sbirlib.data.strokes import Drawing, render
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH
from sbirlib.retrieval.indexes.base import UnknownField
from sbirlib.retrieval.indexes.shards import Record
from sbirlib.search import PhotoGone, SearchIndex
from sbirlib.serve.engine import Engine, Part, Result
from sbirlib.serve.follower import Follower
from sbirlib.serve.limits import Limits
from sbirlib.serve.pictures import Pictures
from sbirlib.serve.schemas import Field, Fields, Hit, Hits, Page, ValueCount
from sbirlib.threads import cores

T = TypeVar("T")
logger = logging.getLogger(__name__)
THREADS = 4  # at most, a core each, that prepare drawings and read photos: more would take the GIL from the engine
VALUES = 100  # of a field, in an answer
BLANK = "The drawing is blank: draw dark lines on the sheet."
ID, LARGEST_ID = re.compile("0|[1-9][0-9]{0,18}"), 2**63


@dataclass
class Service:
    """One index with everything that serves it."""

    engine: Engine
    follower: Follower
    pictures: Pictures
    feedback: Judgements | None
    limits: Limits
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(min(THREADS, cores()), "sbirlib-prepare"))
    _fields: tuple[tuple[int, int], Fields] | None = None
    _counting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def index(self) -> SearchIndex:
        """The index as it is now."""
        return self.engine.index

    async def search(self, sketch: Drawing | bytes, page: Page) -> Hits:
        """The photos that a sketch means: strokes, or an image file."""
        return await self._hits(page, [(sketch, 1.0)])

    async def similar(self, id_: str, sketch: Drawing | None, share: float, page: Page) -> Hits:
        """The photos like one of the index and, by `share`, like the sketch too."""
        path = str((await self.record(id_))["path"])
        sources: list[tuple[Drawing | bytes | str, float]] = [(path, 1.0)] if sketch is None else [(path, 1 - share), (sketch, share)]
        return await self._hits(page, [(source, weight) for source, weight in sources if weight > 0])

    async def record(self, id_: str) -> Record:
        """The record of a photo by its id."""
        if not ID.fullmatch(id_) or int(id_) >= LARGEST_ID:
            raise HTTPException(404, "there is no photo of this id")
        index = self.index.index
        try:
            records = await self._run(lambda: index.records(torch.tensor([int(id_)])))
        except InputError as error:
            raise HTTPException(404, "there is no photo of this id") from error
        return records[0]

    async def picture(self, id_: str, side: int) -> bytes:
        """A photo as JPEG, with at most `side` pixels on its longer side."""
        index, path = self.index, str((await self.record(id_))["path"])
        try:
            return await self._run(lambda: self.pictures.read(index, path, side))
        except InputError as error:
            raise _gone(error) from error

    async def fields(self) -> Fields:
        """The fields of all records, counted once for each state of the index."""
        async with self._counting:
            index = self.index
            state = self.follower.version, await self._run(lambda: len(index))
            if self._fields is None or self._fields[0] != state:
                counts = await self._run(index.index.fields)
                fields = {
                    name: Field(distinct=len(values), values=[ValueCount(value=v, count=n) for v, n in values.most_common(VALUES)])
                    for name, values in counts.items()
                }
                self._fields = state, Fields(fields=fields)
            return self._fields[1]

    async def photos(self) -> int:
        """The number of photos in the index."""
        index = self.index
        count = await self._run(lambda: len(index))
        self.engine.meters.photos.set(count)
        return count

    async def judge(self, drawing: Drawing, id_: str, answer: Verdict) -> None:
        """Keep a judgement of a result."""
        if self.feedback is None:
            raise HTTPException(404, "this server keeps no judgements: start it with --feedback FILE.jsonl")
        path, feedback, digest = str((await self.record(id_))["path"]), self.feedback, self.index.digest
        try:
            await self._run(lambda: feedback.keep(drawing, path, answer, digest))
        except OSError as error:  # such as a full disk
            logger.error("a judgement could not be kept in %s: %s", feedback.path, error.strerror)
            raise HTTPException(507, "the judgement could not be kept; the server's log says why") from error

    async def _hits(self, page: Page, sources: list[tuple[Drawing | bytes | str, float]]) -> Hits:
        if page.k > self.limits.k or page.offset + page.k > self.limits.depth:
            raise HTTPException(422, f"k is at most {self.limits.k}, and offset and k together at most {self.limits.depth}")
        if "path" in page.where:
            raise HTTPException(400, "this server tells no paths, so photos cannot be filtered by them")
        index = self.index
        with self.engine.coming():
            parts = [await self._run(lambda s=source, w=weight: self._part(index, s, w)) for source, weight in sources]  # type: ignore[misc]
            answer = None if None in parts else self.engine.ask(index, [part for part in parts if part is not None], page)
        try:
            if answer is None:
                return Hits(hits=[], total=await self._run(lambda: index.index.count(page.where)), offset=page.offset, message=BLANK)
            return _hits(await asyncio.wrap_future(answer), page.offset)
        except UnknownField as error:
            raise HTTPException(400, str(error)) from error
        except InputError as error:  # may name files and servers
            logger.error("a search failed: %s", error)
            raise HTTPException(503, "the index cannot be searched now; the server's log says why", {"Retry-After": "5"}) from error

    def _part(self, index: SearchIndex, source: Drawing | bytes | str, weight: float) -> Part | None:
        """A prepared image: of strokes, of an image file's bytes, or of a photo of the index by its path; None for a blank sketch."""
        if isinstance(source, str):
            try:
                return Part(index.transform.prepare(index.photo(source), PHOTO), PHOTO, weight)
            except InputError as error:
                raise _gone(error) from error
        sketch = render(source, index.transform) if isinstance(source, Drawing) else self._image(source)
        pixels = index.transform.prepare(sketch, SKETCH)
        return None if bool(pixels.min() == pixels.max()) else Part(pixels, SKETCH, weight)

    def _image(self, content: bytes) -> Image.Image:
        if not content:
            raise HTTPException(400, "the body is empty: send the image as the body, such as curl --data-binary @FILE")
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > self.limits.pixels:
                    raise HTTPException(413, f"the image has {image.width} x {image.height} pixels, at most {self.limits.pixels} are taken")
                return upright(image, "the image")
        except InputError as error:
            raise HTTPException(400, str(error).partition(": replace or remove")[0]) from error
        except HTTPException:
            raise
        except Image.DecompressionBombError as error:
            raise HTTPException(413, f"the image has more than the {self.limits.pixels} pixels that are taken") from error
        except Exception as error:  # of any decoder
            raise HTTPException(400, f"this is no image in {', '.join(FORMATS)}") from error

    async def _run(self, call: Callable[[], T]) -> T:
        """The result of a call, made in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, call)


def _hits(result: Result, offset: int) -> Hits:
    hits = [
        Hit(
            id=str(id_),
            rank=rank,
            score=score,
            name=Path(str(record["path"])).name,
            record={name: value for name, value in record.items() if name != "path"},
        )
        for rank, (id_, score, record) in enumerate(zip(result.ids, result.scores, result.records, strict=True), offset + 1)
    ]
    return Hits(hits=hits, total=result.total, offset=offset)


def _gone(error: InputError) -> HTTPException:
    """The answer for a photo that cannot be read any more; the error, which names the file, goes into the log."""
    logger.warning("%s", error)
    return HTTPException(410, "this photo is no longer there" if isinstance(error, PhotoGone) else "this photo can no longer be read")
