"""The objective of recipe `generative-as-printed`, against a literal transcription of Pang et al. 2017, eq. 1 to 5."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sbirlib import build
from sbirlib.data.batches import Prepared, load
from sbirlib.data.folder import from_lists
from sbirlib.interfaces import Batch, Encoder, Features, Step
from sbirlib.miners.instance_triplets import InstanceTriplets
from sbirlib.testing.world import separable
from sbirlib.training.objective import terms, weighted_sum
from sbirlib.training.plan import Plan
from sbirlib.training.steps import forward
from sbirlib_generative.triplet_cross_entropy import TripletCrossEntropy

LAMBDA_D, LAMBDA_T, MARGIN = 10.0, 1.0, 0.1
SMALL: dict[str, Any] = {
    "encoder.encoder": {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 16},
    "transform.size": 32,
    "sampler.pairs": 8,
    "losses.sketch_decoder.size": 16,
    "losses.sketch_decoder.width": 16,
}


def softmax_term(embedding: Tensor, category: int, weight: Tensor, bias: Tensor) -> Tensor:
    """-log p of one image's category, eq. 2 and 3, from its embedding [D]; the sum of eq. 3 runs over categories."""
    code = embedding / (embedding**2).sum() ** 0.5
    exponentials = [((weight[c] * code).sum() + bias[c]).exp() for c in range(len(weight))]
    return -(exponentials[category] / sum(exponentials)).log()


def printed(step: Step, model: Any, *, ranked: bool) -> tuple[Tensor, int]:
    """L = L_C + lambda_D L_D + lambda_T L_T [] as sums over N triplets, and N; L_T only where `ranked`."""
    triplets = step.triplets["instance"]
    members = [triplets.anchor.tolist(), triplets.positive.tolist(), triplets.negative.tolist()]
    features, embedding, category = step.features, step.features.embedding, step.features.category.tolist()
    code = embedding / (embedding**2).sum(1, keepdim=True) ** 0.5
    classifier, decoder = model.losses["triplet_cross_entropy"].classifier, model.losses["sketch_decoder"].decoder
    rows = members[0] + members[1]
    drawings = dict(zip(rows, decoder(code[rows]), strict=True))  # at once, for the decoder has batch norms
    sketches = 2 * torch.nn.functional.interpolate(step.batch.images, (16, 16), mode="bilinear", antialias=True) - 1
    l_c = l_d = l_t = torch.zeros((), dtype=embedding.dtype)
    for s, p, n in zip(*members, strict=True):
        assert features.instance[s] == features.instance[p] != features.instance[n]
        for image in (s, p, n):
            l_c = l_c + softmax_term(embedding[image], category[image], classifier.weight, classifier.bias)
        l_d = l_d + ((sketches[s] - drawings[s]) ** 2).sum() ** 0.5 + ((sketches[s] - drawings[p]) ** 2).sum() ** 0.5
        near, far = ((code[s] - code[p]) ** 2).sum() ** 0.5, ((code[s] - code[n]) ** 2).sum() ** 0.5
        l_t = l_t + (MARGIN + near - far).clamp(min=0)
    return l_c + LAMBDA_D * l_d + (LAMBDA_T * l_t if ranked else 0), len(members[0])


@pytest.fixture(scope="module")
def ready() -> tuple[Plan, Batch]:
    """The recipe's plan and one batch of its sampler, in float64."""
    torch.manual_seed(0)
    pipeline, data = build("generative-as-printed", **SMALL), separable()
    plan = pipeline.plan(data)
    plan.model.double()
    rows = plan.phases[0].sampler.batches(data.train, seed=0, epoch=0)[0]
    images = next(load(Prepared(data.train, pipeline.transform), [rows], seed=0, epoch=0))
    return plan, Batch(images.images.double(), images.modality, images.category, images.instance)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_total_is_the_printed_objective_over_the_number_of_triplets(ready: tuple[Plan, Batch], number: int) -> None:
    plan, batch = ready
    phase = plan.phases[number].phase
    plan.phases[number].rules.apply(0)
    step, _ = forward(plan.model, phase, batch, progress=0.0)
    total = weighted_sum(terms(plan.model, phase, step), phase, 0.0)
    expected, count = printed(step, plan.model, ranked=number > 0)
    assert count == len(batch) // 2, "a triplet for each sketch"
    torch.testing.assert_close(total, expected / count, rtol=1e-9, atol=0)
    gradients = [torch.autograd.grad(value, step.features.embedding, retain_graph=True)[0] for value in (total, expected / count)]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-10)


def test_its_first_phase_trains_encoder_and_classifier_alone(ready: tuple[Plan, Batch]) -> None:
    plan, _ = ready
    for phase, trains in zip(plan.phases, (False, True, True), strict=True):
        phase.rules.apply(0)
        assert all(p.requires_grad == trains for p in plan.model.losses["sketch_decoder"].parameters())
        assert all(p.requires_grad for p in plan.model.encoder.parameters())
        assert all(p.requires_grad for p in plan.model.losses["triplet_cross_entropy"].parameters())


def test_no_triplet_is_zero_with_a_gradient() -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    batch = Batch(torch.zeros(2, 3, 8, 8), labels, labels, torch.arange(2))
    features = Features.of(batch, torch.randn(2, 6, requires_grad=True))
    value = TripletCrossEntropy(dim=6, categories=3)(Step(features, encoder=Encoder(), batch=batch, miner=InstanceTriplets()))
    assert value.item() == 0
    assert value.requires_grad


@pytest.mark.parametrize(
    "name", ["generative", "generative-as-printed", "generative-heterogeneous", "generative-hybrid", "generative-nodecoder"]
)
def test_a_sketch_and_its_photo_are_cropped_alike(name: str) -> None:
    picture = separable(categories=1, instances=1).read(0)
    data = from_lists("one", sketches=[(picture, "a", "1")], photos=[(picture, "a", "1")])
    transform = build(name, **SMALL if "nodecoder" not in name else {k: v for k, v in SMALL.items() if "decoder" not in k}).transform
    prepared = Prepared(data, transform)
    prepared.cache, prepared.ready[:] = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)[:, :1].repeat(2, 3, 1, 1), True
    for epoch in range(3):
        sketch, photo = next(load(prepared, [[0, 1]], seed=0, epoch=epoch)).images
        assert torch.equal(sketch, photo)
        assert not torch.equal(sketch * 255, prepared.cache[0].float())
