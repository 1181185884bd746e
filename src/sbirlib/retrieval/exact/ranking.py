"""Ranks of the relevant photos of each query: all that a metric needs of a ranking, exact at ties.

G photos are ranked for each of Q queries; R is the largest number of relevant photos that any of these queries has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sbirlib.retrieval.exact.counting import ascending, ranks

TIES = ("expected", "stable", "optimistic", "pessimistic")


@dataclass(frozen=True)
class Ranking:
    """The relevant photos of Q queries, best first, as float64 [Q, R].

    A photo shares its score with `size` photos, itself included, of which `peers` are relevant; `above` photos score higher, of
    which `hits` are relevant. Once ties are settled every size is 1. Where a query has fewer than R, the rest is padding with
    above = G and size = 1. `relevant` [Q, 1] counts the relevant photos, and `harmonic` [G + 1] holds 1 + 1/2 + ... + 1/n for n = 0 to G.
    `tied` holds the rows and columns where size is not 1, usually few; None: nowhere.
    """

    above: Tensor
    size: Tensor
    hits: Tensor
    peers: Tensor
    relevant: Tensor
    harmonic: Tensor
    tied: tuple[Tensor, Tensor] | None = None

    def places(self, k: float | Tensor) -> Tensor:
        """The number of places in the top k (one k, or [Q, 1]) that each photo's group of equal scores has, [Q, R]; 0 for padding."""
        cut = k if isinstance(k, Tensor) else min(k, len(self.harmonic) - 1)
        return torch.minimum((cut - self.above).clamp_(min=0), self.size)

    def hits_in(self, k: float | Tensor) -> Tensor:
        """The expected number of relevant photos in the top k, [Q, 1]."""
        return (self.places(k) / self.size).sum(1, keepdim=True)

    def precisions(self, k: float) -> Tensor:
        """The expected precision at each relevant photo's own place, zero where that is not in the top k, [Q, R].

        With t photos above, c of them relevant, and n equal scores, r of them relevant, of which m places are in the top k, and all orders
        of equal scores equally likely: (1/n) sum_{i=1..m} (c + 1 + (i-1)(r-1)/(n-1)) / (t + i) (McSherry & Najork 2008).
        """
        places = self.places(k)
        precisions = places * (self.hits + 1) / (self.above + 1)
        if self.tied is not None:
            args = [values[self.tied] for values in (self.above, self.size, self.hits, self.peers, places)]
            precisions[self.tied] = self._sum(*args) / args[1]
        return precisions

    def mean_precision(self, k: float) -> Tensor:
        """The expected mean over the hits in the top k of the precision there, zero without a hit, [Q, 1].

        Where the cut divides a group of equal scores, the number of hits is itself random: a sum over its hypergeometric distribution.
        """
        places = self.places(k)
        whole, divided = places == self.size, (places > 0) & (places < self.size)
        total, certain = (self.precisions(k) * whole).sum(1, keepdim=True), whole.sum(1, keepdim=True).double()
        above, size, peers, places = ((x * divided).amax(1, keepdim=True) for x in (self.above, self.size, self.peers, places))
        count = torch.arange(int(torch.minimum(peers, places).max()) + 1, dtype=torch.float64, device=size.device)
        chance = (_log_choose(peers, count) + _log_choose(size - peers, places - count) - _log_choose(size, places)).exp()
        total = total + count / places.clamp(min=1) * self._sum(above, places, certain, count, places)
        return (chance * total / (certain + count).clamp(min=1)).sum(1, keepdim=True)

    def _sum(self, above: Tensor, size: Tensor, hits: Tensor, peers: Tensor, places: Tensor) -> Tensor:
        """sum_{i=1..places} (hits + 1 + (i-1)(peers-1)/(size-1)) / (above + i), by a difference of harmonic numbers."""
        inverse = self.harmonic[(above + places).long()] - self.harmonic[above.long()]
        return (hits + 1) * inverse + (peers - 1) / (size - 1).clamp(min=1) * (places - (above + 1) * inverse)


def rank(distances: Tensor, columns: Tensor, relevant: Tensor, harmonic: Tensor) -> Ranking:
    """Ranks by ascending `distances` [Q, G].

    `columns` [Q, R] holds each query's relevant photos, the first `relevant` [Q, 1] of them; `harmonic` is `harmonics(G)`.
    """
    count = distances.shape[1]
    place = torch.arange(columns.shape[1], device=columns.device)
    padding = place >= relevant
    own = ascending(distances.gather(1, columns).masked_fill_(padding, torch.inf))
    above, size = (values.masked_fill_(padding, filler) for values, filler in zip(ranks(distances, own, relevant), (count, 1), strict=True))
    one = torch.ones((), dtype=torch.float64, device=own.device).expand_as(own)
    ranking = Ranking(
        above=above.double(),
        size=one,
        hits=place.double().expand_as(own),
        peers=one,
        relevant=relevant.double(),
        harmonic=harmonic,
    )
    tied = size > 1
    return _with_ties(ranking, own, size, tied) if tied.any() else ranking


def _with_ties(ranking: Ranking, own: Tensor, size: Tensor, tied: Tensor) -> Ranking:
    """The ranking with `hits`, `size` and `peers` where some relevant photos [Q, R] share their score; computed for those alone."""
    row, column = tied.nonzero(as_tuple=True)
    number = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)  # among those of its row
    scores = own.new_full((len(own), int(number.max()) + 1), torch.inf)
    scores[row, number] = own[row, column]
    before, after = (torch.searchsorted(own, scores, right=right)[row, number].double() for right in (False, True))
    hits, peers = ranking.hits.clone(), ranking.peers.clone()
    hits[row, column] = before
    peers[row, column] = torch.minimum(after, ranking.relevant[row, 0]) - before
    return replace(ranking, hits=hits, size=size.double(), peers=peers, tied=(row, column))


def harmonics(count: int, device: torch.device | str = "cpu") -> Tensor:
    """1 + 1/2 + ... + 1/n for n = 0 to count, float64 [N + 1] with N = count."""
    sums = torch.arange(1, count + 1, dtype=torch.float64, device=device).reciprocal().cumsum(0)
    return torch.nn.functional.pad(sums, (1, 0))


def settle(ranking: Ranking, rule: str, distances: Tensor, columns: Tensor) -> Ranking:
    """Put equal scores in order: `stable` in gallery order, `optimistic` the relevant first, `pessimistic` last; `expected` keeps the ties.

    `distances` [Q, G] and `columns` [Q, R] are those of `rank`; only `stable` reads the distances.
    """
    if rule == "expected" or ranking.tied is None:
        return ranking
    place = torch.arange(columns.shape[1], dtype=torch.float64, device=columns.device).expand_as(ranking.above)
    padding, one = place >= ranking.relevant, torch.ones_like(place)
    above = ranking.above + place - ranking.hits
    if rule == "pessimistic":
        above += ranking.size - ranking.peers
    if rule == "stable":  # equal scores of relevant photos alone need no order, so few queries need a second sort
        for row in (ranking.size > ranking.peers).any(1).nonzero().flatten().tolist():
            relevant = torch.zeros(distances.shape[1], dtype=torch.bool, device=distances.device)
            relevant[columns[row, ~padding[row]]] = True
            above[row, ~padding[row]] = relevant[distances[row].argsort(stable=True)].nonzero().flatten().double()
    return replace(ranking, above=above.masked_fill(padding, len(ranking.harmonic) - 1), size=one, hits=place, peers=one, tied=None)


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    """log C(n, k), -inf where there is no way to choose."""
    value = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return value.masked_fill((k < 0) | (k > n), -torch.inf)
