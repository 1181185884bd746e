"""Evaluators with one defect each, and a sound one."""

import numpy as np
import torch
from torch import Tensor

from sbirlib.interfaces import Encoded, Evaluator


class Nearest(Evaluator):
    """An evaluator with nothing wrong: the share of queries whose best photo is of their category."""

    memory = 2**20

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        chunk = max(1, self.memory // (4 * queries.vectors.shape[1] * len(gallery)))
        hits = [self.hits(queries[torch.arange(len(queries))[i : i + chunk]], gallery) for i in range(0, len(queries), chunk)]
        return {"nearest": float(torch.cat(hits).double().mean())}

    def hits(self, queries: Encoded, gallery: Encoded) -> Tensor:
        best = (queries.vectors @ gallery.vectors.T).amax(1).argmax(1)
        return gallery.category[best] == queries.category


class Percent(Nearest):
    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        return {"nearest": 100 * super().evaluate(queries, gallery)["nearest"]}


class FirstQueries(Nearest):
    """Evaluates the first few queries only."""

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        return super().evaluate(queries[torch.arange(min(7, len(queries)))], gallery)


class Greedy(Nearest):
    """All scores at once, however little memory it is given."""

    memory = 2**40

    def __setattr__(self, name: str, value: object) -> None: ...


class Unmeant(Nearest):
    """Gives every query the value 0, whatever the metric is."""

    def per_query(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        return {"nearest": torch.zeros(len(queries))}


class Unclassed(Nearest):
    """Gives the mean over queries for the mean over classes."""

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        mean = super().evaluate(queries, gallery)["nearest"]
        return {"nearest": mean, "class_nearest": mean}

    def per_query(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        return {"nearest": self.hits(queries, gallery).double()}


class Optimist(Nearest):
    """Takes the photo of the query's category among those of the highest score."""

    def hits(self, queries: Encoded, gallery: Encoded) -> Tensor:
        scores = (queries.vectors @ gallery.vectors.T).amax(1)
        relevant = gallery.category == queries.category[:, None]
        return ((scores == scores.amax(1, keepdim=True)) & relevant).any(1)


class Resampler(Nearest):
    """Draws from numpy's global generator."""

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        np.random.rand()
        return super().evaluate(queries, gallery)


class Normaliser(Nearest):
    """Scales the vectors of its caller."""

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        gallery.vectors.mul_(0.5)
        return super().evaluate(queries, gallery)


class Centring(Nearest):
    """Centres the queries of its caller."""

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        queries.vectors.sub_(queries.vectors.mean())
        return super().evaluate(queries, gallery)
