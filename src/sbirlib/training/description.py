"""Descriptions in the metadata of models and checkpoints: one schema, strict, with bounded sizes."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import StringConstraints, TypeAdapter

from sbirlib.documents import Count, Name, Schema

MAX_CATEGORIES = 1_000_000
MAX_TOWERS, MAX_TENSORS, MAX_BYTES = 16, 10_000, 2**36
Word = Annotated[str, MaxLen(4096)]


class Place(Schema):
    """Place in a training, as `Position` names it."""

    phase: Count
    step: Count
    epoch: Count
    batch: Count


class OptimizerState(Schema):
    """Parameter groups of an optimizer, and those entries of its state, by the number of the parameter, that are no tensors."""

    groups: list[dict[str, Any]]
    plain: dict[str, dict[str, bool | int | float | str | None]]


class Chosen(Schema):
    """The step whose weights a validation chose, and the share of pretrained weights in them, with the metric and its value there."""

    step: Count
    metric: Word
    value: float
    share: Annotated[float, Ge(0), Le(1)] = 0.0


class Training(Schema):
    """Where a checkpoint stands, and the state of the optimizers there.

    `chosen` is the best step so far, `since` the validations after it, `processes` the number of those that trained.
    """

    position: Place
    optimizers: dict[str, OptimizerState]
    recipe_digest: Word
    chosen: Chosen | None = None
    since: Count = 0
    processes: Count = 1


class Tower(Schema):
    """The pretrained tensors of a backbone that a model leaves out: SHA-256 of all of them, how many they are, and their size."""

    digest: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    tensors: Annotated[int, Ge(1), Le(MAX_TENSORS)]
    bytes: Annotated[int, Ge(1), Le(MAX_BYTES)]


class Data(Schema):
    """The dataset that a checkpoint was trained on: its name, its split, and the SHA-256 of both."""

    name: Word
    split: Word
    digest: Word


class Description(Schema):
    """Description of a model: its recipe, its training categories, the step that validation chose, and, in a checkpoint, its data and its training.

    `towers` describes pretrained tensors that are left out, by module path, and `exported` says that losses are. `stroke_width` is that of its
    training sketches, as a share of the drawing's side; `xxh3` is the file's digest.
    """

    xxh3: Word = ""
    recipe: dict[str, Any]
    categories: Annotated[list[Name], MaxLen(MAX_CATEGORIES)]
    instances: Count
    exported: bool
    chosen: Chosen | None = None
    stroke_width: Annotated[float, Gt(0), Lt(1)] | None = None
    data: Data | None = None
    towers: Annotated[dict[Word, Tower], MaxLen(MAX_TOWERS)] | None = None
    training: Training | None = None


SCHEMA = TypeAdapter(Description)
