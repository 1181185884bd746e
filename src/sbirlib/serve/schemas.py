"""Bodies of requests and answers."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Interval, Le, MaxLen
from pydantic import BaseModel, ConfigDict
from pydantic import Field as Default

from sbirlib.data.judgements import Verdict
from sbirlib.data.strokes import Drawing
from sbirlib.documents import Schema
from sbirlib.retrieval.indexes.shards import Value

Text = Annotated[str, MaxLen(1000)]
Filter = Annotated[dict[Text, Annotated[list[Annotated[str, MaxLen(10_000)] | int | float | bool | None], MaxLen(1000)]], MaxLen(20)]
Many = Annotated[int, Ge(1), Le(1_000_000)]
Place = Annotated[int, Ge(0), Le(1_000_000)]


class Page(Schema):
    """Which part of a ranking is wanted: k photos from place `offset` on, of those that pass the filter `where`."""

    k: Many = 24
    offset: Place = 0
    where: Filter = Default(default_factory=dict)


class SearchRequest(Page):
    """A search with a drawing."""

    drawing: Drawing


class SimilarRequest(Page):
    """A search with a photo of the index and, if there is one, a drawing, whose score weighs `share` of the whole."""

    drawing: Drawing | None = None
    share: Annotated[float, Interval(ge=0, le=1)] = 0.5


class FeedbackRequest(Schema):
    """A judgement of one photo of a search: that which was meant, or not."""

    drawing: Drawing
    id: Text
    answer: Verdict


class Answer(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(frozen=True)


class Hit(Answer):
    """A photo: its id, its rank from 1, its score (larger is nearer), its file's name, and the fields of its record."""

    id: str
    rank: int
    score: float
    name: str
    record: dict[str, Value]


class Hits(Answer):
    """A part of a ranking of `total` photos, and a word to the user where there is one."""

    hits: list[Hit]
    total: int
    offset: int
    message: str | None = None


class ValueCount(Answer):
    """A value of a field, and how many photos have it."""

    value: Value
    count: int


class Field(Answer):
    """The commonest values of a field, of `distinct` different ones."""

    distinct: int
    values: list[ValueCount]


class Fields(Answer):
    """Fields of the photos' records, by name."""

    fields: dict[str, Field]


class About(Answer):
    """What a client needs to know before it searches; `stroke_width` is that of training sketches, as a share of the drawing's side."""

    photos: int
    stroke_width: float
    feedback: bool
    limits: dict[str, int]
    version: str


class Health(Answer):
    """State of the service."""

    status: Literal["ok"]
    photos: int


class Fault(Answer):
    """An error, in one sentence."""

    detail: str
