"""Time of MATHM's three triplet terms, mining and gradient included, beside the same terms composed from pytorch-metric-learning (PML).

    python -m benchmarks.speed.triplets [--batches 128 2048] [--threads 2] [--repeats 15]

Both take embeddings [N, 512] and give the mean hinge over all anchors for cross, within and hybrid (Huang et al. 2022, eq. 4, 7, 8);
values and gradients are first checked to be equal. PML mines each pair of modalities once, and hybrid reuses it. The two run in turns
in one process. Times are medians; the ratio is the median of the ratios of neighbours, with quartiles, and that of the best times
stands beside it. As in training, freed memory is kept.
"""

import argparse
import json
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from benchmarks.speed.timing import machine, seconds
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features, Step
from sbirlib.memory import keep_freed_memory
from sbirlib_mathm.balanced_triplet import BalancedTriplet
from sbirlib_mathm.modality_hard import ModalityHard

MARGIN = 0.2
DIM = 512


def labels(count: int, categories: int) -> Batch:
    """Labels [N] of a balanced batch in random order, because the order of rows must not matter."""
    order = torch.randperm(count)
    category = (torch.arange(count) % categories)[order]
    modality = (torch.arange(count) * 2 // count)[order]
    return Batch(torch.empty(count, 3, 0, 0), modality, category, torch.full_like(category, -1))


def ours(batch: Batch) -> Callable[[Tensor], dict[str, Tensor]]:
    """The three terms of embeddings [N, V] by sbirlib."""
    encoder, miner, loss = Encoder(), ModalityHard(), BalancedTriplet(margin=MARGIN, weighting=False)
    return lambda embedding: loss(Step(Features.of(batch, embedding), encoder=encoder, batch=batch, miner=miner))


def theirs(batch: Batch) -> Callable[[Tensor], dict[str, Tensor]]:
    """The three terms of embeddings [N, V] composed from PML."""
    miner, loss = BatchHardMiner(), TripletMarginLoss(margin=MARGIN, reducer=MeanReducer())
    rows = {m: (batch.modality == m).nonzero().squeeze(1) for m in (SKETCH, PHOTO)}
    category = {m: batch.category[rows[m]] for m in rows}

    def terms(embedding: Tensor) -> dict[str, Tensor]:
        """The three terms, scalars of shape []."""
        of_modality = {m: embedding[rows[m]] for m in rows}
        total = {kind: embedding.new_zeros(()) for kind in ("cross", "within", "hybrid")}
        for own, other in ((SKETCH, PHOTO), (PHOTO, SKETCH)):
            # The clone: with one and the same object for both labels PML takes the diagonal for the anchor itself.
            reference = of_modality[other], category[other].clone()
            both = torch.cat([of_modality[other], of_modality[own]])
            cross = miner(of_modality[own], category[own], *reference)
            within = miner(of_modality[own], category[own])
            hybrid = cross[0], cross[1], within[2] + len(rows[other])
            total["cross"] = total["cross"] + loss(of_modality[own], category[own], cross, *reference) / 2
            total["within"] = total["within"] + loss(of_modality[own], category[own], within) / 2
            both_labels = torch.cat([category[other], category[own]])
            total["hybrid"] = total["hybrid"] + loss(of_modality[own], category[own], hybrid, both, both_labels) / 2
        return total

    return terms


def gradient(terms: Callable[[Tensor], dict[str, Tensor]], embedding: Tensor) -> Tensor:
    """Gradient [N, V] of the sum of the terms by the embedding [N, V]."""
    leaf = embedding.detach().requires_grad_()
    torch.stack(list(terms(leaf).values())).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def check(ours: Callable[[Tensor], dict[str, Tensor]], theirs: Callable[[Tensor], dict[str, Tensor]], embedding: Tensor) -> None:
    """Raise AssertionError unless values and gradients for the embedding [N, V] are equal."""
    embedding = embedding.double()  # in float32 the hardest of nearly tied rows may differ
    expected = theirs(embedding)
    for kind, value in ours(embedding).items():
        torch.testing.assert_close(value, expected[kind], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient(ours, embedding), gradient(theirs, embedding), rtol=1e-6, atol=1e-9)


def compare(count: int, categories: int, repeats: int) -> dict[str, float | int]:
    """Times in milliseconds and their ratios for one batch size."""
    torch.manual_seed(0)
    batch = labels(count, categories)
    # Centres and noise for which some triplets are active and some are not, as in training.
    embedding = F.normalize(torch.randn(categories, DIM))[batch.category] + 0.03 * torch.randn(count, DIM)
    mine, pml = ours(batch), theirs(batch)
    check(mine, pml, embedding)
    times = [(seconds(lambda: gradient(mine, embedding)), seconds(lambda: gradient(pml, embedding))) for _ in range(repeats + 2)][2:]
    low, ratio, high = statistics.quantiles([b / a for a, b in times], n=4)
    ms = [1000 * statistics.median(side) for side in zip(*times, strict=True)]
    best = [1000 * min(side) for side in zip(*times, strict=True)]  # least disturbed by other programs
    result = {"batch": count, "categories": categories, "ours_ms": ms[0], "pml_ms": ms[1], "ratio": ratio, "low": low, "high": high}
    result |= {"ours_best_ms": best[0], "pml_best_ms": best[1], "best_ratio": best[1] / best[0]}
    return {name: round(value, 3) for name, value in result.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 2048])
    parser.add_argument("--categories", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    conditions = {"threads": options.threads, "dim": DIM, **machine()}
    results = [compare(count, options.categories, options.repeats) for count in options.batches]
    for result in results:
        print("batch {batch}: ours {ours_ms} ms, PML {pml_ms} ms, {ratio}x (quartiles {low} to {high})".format(**result))
        print("    best: ours {ours_best_ms} ms, PML {pml_best_ms} ms, {best_ratio}x".format(**result))
    print(json.dumps(conditions | {"results": results}))


if __name__ == "__main__":
    main()
