"""Queries of many clients, gathered into one call of the encoder and one search."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from operator import length_hint
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.features import Batch
from sbirlib.interfaces import SKETCH
from sbirlib.retrieval.encode import lock_of
from sbirlib.retrieval.indexes.shards import Record
from sbirlib.search import SearchIndex
from sbirlib.serve.metrics import Meters
from sbirlib.serve.schemas import Page

T = TypeVar("T")
MOST = 64  # queries of one call
PATIENCE = 0.004  # seconds that a query waits for others that are being prepared
SLOW = 1.0  # seconds of a call that no query should wait for without need
TRIES = 3  # of a search in an index that loses photos meanwhile


@dataclass(frozen=True)
class Part:
    """A prepared image uint8 [3, S, S] of a modality, and the weight of its score."""

    pixels: Tensor
    modality: int
    weight: float = 1.0


@dataclass(frozen=True)
class Result:
    """Ids and scores of photos, best first, from `offset` on, with the record of each; `total` photos pass the filter."""

    ids: Sequence[int]
    scores: Sequence[float]
    records: Sequence[Record]
    total: int


@dataclass(frozen=True)
class Query:
    """A search in an index for the sum of the parts' weighted scores."""

    index: SearchIndex
    parts: Sequence[Part]
    page: Page
    answer: Future[Result] = field(default_factory=Future)


class Engine:
    """One thread that encodes and searches; queries that arrive while it works go together into its next call."""

    def __init__(self, index: SearchIndex, device: torch.device, meters: Meters, *, most: int) -> None:
        self.device, self.meters, self.most = device, meters, most
        self._queue: SimpleQueue[Query] = SimpleQueue()
        self._coming, self._lock = 0, Lock()
        self._thread = ThreadPoolExecutor(1, "sbirlib-engine")
        self.take(index)

    def take(self, index: SearchIndex) -> None:
        """Search in this index from now on."""
        index.encoder.to(self.device).eval()
        self.index = index

    @contextmanager
    def coming(self) -> Iterator[None]:
        """A query is being prepared in this block: others wait for it, a few milliseconds."""
        with self._lock:
            self._coming += 1
        try:
            yield
        finally:
            with self._lock:
                self._coming -= 1

    def ask(self, index: SearchIndex, parts: Sequence[Part], page: Page) -> Future[Result]:
        """A part of the ranking of an index's photos, in the future."""
        query = Query(index, parts, page)
        self._queue.put(query)
        self._thread.submit(self._work)
        return query.answer

    def warm_up(self) -> None:
        """Encode white images in the background in calls of all sizes, so that a load finds its kernels and its memory there.

        A query that comes meanwhile waits for one call; so the last is the first that takes `SLOW` seconds.
        """
        self._thread.submit(self._warm_up, iter(sorted({size_of_call(images) for images in range(1, self.most + 1)})))

    def _warm_up(self, sizes: Iterator[int]) -> None:
        index, start = self.index, time.monotonic()
        white = Part(torch.full((3, index.transform.size, index.transform.size), 255, dtype=torch.uint8), SKETCH)
        self._vectors([Query(index, [white], Page())] * next(sizes))
        if time.monotonic() - start < SLOW and length_hint(sizes):
            with suppress(RuntimeError):  # the process ends
                self._thread.submit(self._warm_up, sizes)

    def _work(self) -> None:
        """Answer the queries that wait; an earlier call may have answered them all."""
        queries = [query for query in self._waiting() if query.answer.set_running_or_notify_cancel()]
        try:
            if queries:
                self._answer(queries)
        except BaseException as error:  # of one query or of all: each is told
            for query in queries:
                if not query.answer.done():
                    query.answer.set_exception(error)

    def _waiting(self) -> list[Query]:
        """The queries that wait, and those that come while others are being prepared."""
        queries: list[Query] = []
        end = time.monotonic() + PATIENCE
        while len(queries) < self.most:
            left = end - time.monotonic() if queries and self._coming else 0.0
            try:
                queries.append(self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait())
            except Empty:
                if not queries or not self._coming or time.monotonic() >= end:
                    break
        return queries

    def _answer(self, queries: Sequence[Query]) -> None:
        self.meters.batch.observe(len(queries))
        for of_index in _grouped(queries, [id(query.index) for query in queries]):
            self._answer_together(of_index)

    def _answer_together(self, queries: Sequence[Query]) -> None:
        """Answer queries of one index: one call of the encoder, and one search for each filter."""
        with self.meters.encoding.time():
            vectors = self._vectors(queries)
        filters = [(own.shape, repr(sorted(query.page.where.items()))) for own, query in zip(vectors, queries, strict=True)]
        for numbers in _grouped(range(len(queries)), filters):
            with self.meters.searching.time():
                _search([queries[i] for i in numbers], torch.stack([vectors[i] for i in numbers]))

    def _vectors(self, queries: Sequence[Query]) -> list[Tensor]:
        """The vectors [S, V] of each query of one index, all images encoded in one call."""
        parts = [part for query in queries for part in query.parts]
        filled = parts + [parts[-1]] * (size_of_call(len(parts)) - len(parts))
        images = torch.stack([part.pixels for part in filled]).float() / 255
        none = torch.full((len(filled),), -1)
        batch = Batch(images, torch.tensor([part.modality for part in filled]), none, none)
        index = queries[0].index
        encoder = index.encoder
        with torch.inference_mode(), lock_of(encoder):
            every = iter(encoder.query_vectors(batch.to(self.device)).float().cpu())
        vectors = [mixture([(next(every), part.weight) for part in query.parts]) for query in queries]
        if index.expansion is None:
            return vectors
        return [own if len(query.parts) == 1 else F.normalize(own, dim=1) for own, query in zip(vectors, queries, strict=True)]


def size_of_call(images: int) -> int:
    """Number of images that a call of the encoder has: 1, 2, 4, or a multiple of 8.

    Libraries of kernels (oneDNN, cuDNN) prepare, and keep, one kernel a layer for each number of images: with any number of them the first calls
    would be slow and memory would grow for minutes.
    """
    return next((size for size in (1, 2, 4) if images <= size), -(-images // 8) * 8)


def mixture(parts: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Vectors [S, V] whose score is the weighted sum of the parts' scores; a part is its vectors [S', V] and its weight, which is positive.

    A score is the largest of some inner products, so a sum of scores is the largest of the sums over all choices of one vector from each part.
    """
    whole = parts[0][0] * parts[0][1]
    for vectors, weight in parts[1:]:
        whole = (whole[:, None] + weight * vectors[None]).flatten(0, 1)
    return whole


def _grouped(items: Iterable[T], keys: Iterable[Any]) -> Iterable[list[T]]:
    """The items with equal keys together, in their order."""
    groups: defaultdict[Any, list[T]] = defaultdict(list)
    for item, key in zip(items, keys, strict=True):
        groups[key].append(item)
    return groups.values()


def _search(queries: Sequence[Query], vectors: Tensor) -> None:
    """Answer queries of one index and one filter, with vectors [Q, S, V]."""
    try:
        results = _results(queries, vectors)
    except InputError as error:  # such as an unknown field: the fault of these queries alone
        for query in queries:
            query.answer.set_exception(error)
        return
    for query, result in zip(queries, results, strict=True):
        query.answer.set_result(result)


def _results(queries: Sequence[Query], vectors: Tensor) -> list[Result]:
    index, where = queries[0].index.index, queries[0].page.where
    pages = [slice(query.page.offset, query.page.offset + query.page.k) for query in queries]
    for tries in range(TRIES):
        total = index.count(where)
        if total == 0:
            return [Result([], [], [], 0)] * len(queries)
        try:
            scores, ids = index.search(queries[0].index.expanded(vectors, where), max(page.stop for page in pages), where)
            own = [row[page][row[page] >= 0] for row, page in zip(ids, pages, strict=True)]
            records = iter(index.records(torch.cat(own)))
        except InputError:
            if tries + 1 == TRIES:
                raise
            continue  # another process has removed a photo since it was ranked
        return [
            Result(these.tolist(), row[page][: len(these)].tolist(), [next(records) for _ in these], total)
            for these, row, page in zip(own, scores, pages, strict=True)
        ]
    raise AssertionError("the last try returns or raises")
