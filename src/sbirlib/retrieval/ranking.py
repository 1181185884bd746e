"""Where the relevant photos of each query came: all that a metric needs to know of a ranking, exact at ties.

G photos are ranked for each of q queries; R is the most relevant photos that any of these queries has.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sbirlib.errors import InputError

TIES = ("expected", "stable", "optimistic", "pessimistic")


@dataclass(frozen=True)
class Ranking:
    """The relevant photos of q queries, best first, as float64 [q, R].

    A photo shares its score with `size` photos, itself among them, of which `peers` are relevant; `above` photos score higher, of
    which `hits` are relevant. Once an order is settled every size is 1. Where a query has fewer than R, the rest is padding with
    above = G. `relevant` [q, 1] counts the relevant photos, and `harmonic` [G + 1] holds 1 + 1/2 + ... + 1/n for n = 0 to G.
    """

    above: Tensor
    size: Tensor
    hits: Tensor
    peers: Tensor
    relevant: Tensor
    harmonic: Tensor

    def places(self, k: float | Tensor) -> Tensor:
        """How many places of each photo's group of equals lie in the top k (one k, or [q, 1]), as [q, R]; 0 for padding."""
        cut = torch.as_tensor(k, dtype=torch.float64).clamp(max=len(self.harmonic) - 1)
        return torch.minimum((cut - self.above).clamp(min=0), self.size)

    def hits_in(self, k: float | Tensor) -> Tensor:
        """The expected number of relevant photos in the top k, [q, 1]."""
        return (self.places(k) / self.size).sum(1, keepdim=True)

    def precisions(self, k: float) -> Tensor:
        """Each relevant photo's expected precision at its own place, zero where that is not in the top k, [q, R].

        With t photos above, c of them relevant, and n equals, r of them relevant, of which m places are in the top k, any order of
        equals being as likely as another: (1/n) sum_{i=1..m} (c + 1 + (i-1)(r-1)/(n-1)) / (t + i) (McSherry & Najork 2008).
        """
        return self._sum(self.above, self.size, self.hits, self.peers, self.places(k)) / self.size

    def mean_precision(self, k: float) -> Tensor:
        """The expected mean over the hits in the top k of the precision there, zero without a hit, [q, 1].

        Where the cut divides equals, how many are hits is itself random: a sum over the hypergeometric distribution of that number.
        """
        places = self.places(k)
        whole, divided = places == self.size, (places > 0) & (places < self.size)
        total, sure = (self.precisions(k) * whole).sum(1, keepdim=True), whole.sum(1, keepdim=True).double()
        above, size, peers, places = ((x * divided).amax(1, keepdim=True) for x in (self.above, self.size, self.peers, places))
        found = torch.arange(int(torch.minimum(peers, places).max()) + 1, dtype=torch.float64)
        chance = (_log_choose(peers, found) + _log_choose(size - peers, places - found) - _log_choose(size, places)).exp()
        total = total + found / places.clamp(min=1) * self._sum(above, places, sure, found, places)
        return (chance * total / (sure + found).clamp(min=1)).sum(1, keepdim=True)

    def _sum(self, above: Tensor, size: Tensor, hits: Tensor, peers: Tensor, places: Tensor) -> Tensor:
        """sum_{i=1..places} (hits + 1 + (i-1)(peers-1)/(size-1)) / (above + i), by a difference of harmonic numbers."""
        inverse = self.harmonic[(above + places).long()] - self.harmonic[above.long()]
        return (hits + 1) * inverse + (peers - 1) / (size - 1).clamp(min=1) * (places - (above + 1) * inverse)


def rank(distances: Tensor, columns: Tensor, relevant: Tensor) -> Ranking:
    """Ranks by ascending `distances` [q, G]; `columns` [q, R] holds each query's relevant photos, the first `relevant` [q, 1] of them."""
    count = distances.shape[1]
    ordered = _sorted(distances)
    if ordered[:, -1].isnan().any():  # NaN sorts last
        raise InputError("a score is not a number: a vector holds NaN or infinity. Encode with finite weights, or leave that image out")
    padding = torch.arange(columns.shape[1]) >= relevant
    own = _sorted(distances.gather(1, columns).masked_fill_(padding, torch.inf))
    above, hits = torch.searchsorted(ordered, own), torch.searchsorted(own, own)
    size = torch.searchsorted(ordered, own, right=True) - above
    peers = torch.minimum(torch.searchsorted(own, own, right=True), relevant) - hits
    harmonic = torch.arange(1, count + 1, dtype=torch.float64).reciprocal().cumsum(0)
    return Ranking(
        above=above.double().masked_fill_(padding, count),
        size=size.double().masked_fill_(padding, 1),
        hits=hits.double().masked_fill_(padding, 0),
        peers=peers.double().masked_fill_(padding, 1),
        relevant=relevant.double(),
        harmonic=torch.nn.functional.pad(harmonic, (1, 0)),
    )


def settle(tied: Ranking, rule: str, distances: Tensor, columns: Tensor) -> Ranking:
    """Puts equals in order: `stable` as in the gallery, `optimistic` the relevant first, `pessimistic` last; `expected` leaves them."""
    if rule == "expected":
        return tied
    place = torch.arange(columns.shape[1], dtype=torch.float64).expand_as(tied.above)
    padding, one = place >= tied.relevant, torch.ones_like(place)
    above = tied.above + place - tied.hits
    if rule == "pessimistic":
        above += tied.size - tied.peers
    if rule == "stable":  # any order of equals that are all relevant is the same, so few queries need a second sort
        for row in (tied.size > tied.peers).any(1).nonzero().flatten().tolist():
            relevant = torch.zeros(distances.shape[1], dtype=torch.bool)
            relevant[columns[row, ~padding[row]]] = True
            above[row, ~padding[row]] = relevant[distances[row].argsort(stable=True)].nonzero().flatten().double()
    return replace(tied, above=above.masked_fill(padding, distances.shape[1]), size=one, hits=place, peers=one)


def _sorted(values: Tensor) -> Tensor:
    """A copy with rows ascending and NaN last; NumPy's vectorised sort, rows shared among threads, is many times faster than torch's."""
    rows, threads = values.numpy().copy(), torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda some: some.sort(axis=1), np.array_split(rows, threads)))
    return torch.from_numpy(rows)


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    """log C(n, k), -inf where there is no way to choose."""
    value = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return value.masked_fill((k < 0) | (k > n), -torch.inf)
