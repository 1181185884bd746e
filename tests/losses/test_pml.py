import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances, losses, miners
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.interfaces import Step, Triplets
from sbirlib.losses.pml import REFUSED, Cosine, adapt, adaptable
from sbirlib.spec import part

MakeStep = Callable[..., Step]
REQUIRED = {"dim": 6, "categories": 4, "margin": 0.4, "Tn": 10}
CATEGORY = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3])
ADAPTED = adaptable()
WITH_PARAMETERS = [n for n in ADAPTED if "num_classes" in inspect.signature(getattr(losses, n)).parameters and n != "MarginLoss"]
WITH_PARAMETERS += ["CosFaceLoss", "SubCenterArcFaceLoss"]
FROM_DISTANCES = ["ContrastiveLoss", "TripletMarginLoss", "MarginLoss", "NCALoss", "LiftedStructureLoss", "RankedListLoss"]


def needed(name: str) -> dict[str, Any]:
    parameters = inspect.signature(adapt(name)).parameters.values()
    return {p.name: REQUIRED[p.name] for p in parameters if p.default is p.empty}


def pml_options(name: str) -> dict[str, Any]:
    sizes = {"dim": "descriptors_dim" if name == "P2SGradLoss" else "embedding_size", "categories": "num_classes"}
    return {sizes.get(option, option): value for option, value in needed(name).items()}


@pytest.mark.parametrize("name", ADAPTED)
def test_equals_pml_in_value_and_gradient(make_step: MakeStep, name: str) -> None:
    torch.manual_seed(0)
    embedding = torch.randn(12, 6, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    ours = adapt(name)(**needed(name))
    torch.manual_seed(1)
    theirs = getattr(losses, name)(**pml_options(name))
    value, expected = ours(make_step(embedding, CATEGORY)), theirs(embedding, CATEGORY)
    torch.testing.assert_close(value, expected.sum(), rtol=1e-5, atol=1e-6)
    (mine,), (other,) = (torch.autograd.grad(v.sum(), embedding) for v in (value, expected))
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", WITH_PARAMETERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_parameters_keep_their_dtype(make_step: MakeStep, name: str, dtype: torch.dtype) -> None:
    loss = adapt(name)(**needed(name))
    step = make_step(torch.randn(12, 6), CATEGORY)
    step.features = replace(step.features, embedding=torch.randn(12, 6).to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(step)
    value.backward()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    parameters = list(loss.parameters())
    assert parameters
    for parameter in parameters:
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.any()


@pytest.mark.parametrize("name", FROM_DISTANCES)
def test_euclidean_losses_read_the_encoders_distances(make_step: MakeStep, name: str) -> None:
    torch.manual_seed(0)
    step = make_step(torch.randn(12, 6), CATEGORY)
    distances = (step.distances * 1.3).requires_grad_()
    step.distances = distances
    adapt(name)(**needed(name))(step).backward()
    assert distances.grad is not None
    assert distances.grad.any()


@pytest.mark.parametrize("name", ADAPTED)
@pytest.mark.parametrize(
    "rows", [CATEGORY[:1], torch.zeros(5, dtype=torch.int64), torch.arange(4)], ids=["one row", "one class", "no positive"]
)
def test_batches_without_pairs_give_a_number_with_a_gradient(make_step: MakeStep, name: str, rows: Tensor) -> None:
    embedding = torch.randn(len(rows), 6, requires_grad=True)
    value = adapt(name)(**needed(name))(make_step(embedding, rows))
    value.backward()
    assert value.isfinite()
    assert embedding.grad is not None


def test_every_option_of_a_loss_is_in_the_signature() -> None:
    options = inspect.signature(adapt("SubCenterArcFaceLoss")).parameters
    assert list(options) == ["margin", "scale", "sub_centers", "categories", "dim", "triplets", "miner", "labels"]
    assert options["margin"].default == 28.6
    assert options["dim"].default is inspect.Parameter.empty
    assert all(option.kind is option.KEYWORD_ONLY for option in options.values())


@pytest.mark.parametrize("name", ADAPTED)
def test_every_option_can_be_given(name: str) -> None:
    defaults = {p.name: p.default for p in inspect.signature(adapt(name)).parameters.values() if p.default is not p.empty}
    assert isinstance(adapt(name)(**needed(name) | defaults).loss, getattr(losses, name))


def test_options_reach_the_loss(make_step: MakeStep) -> None:
    embedding = torch.randn(12, 6)
    ours = adapt("MultiSimilarityLoss")(alpha=3, beta=40, base=0.4)
    torch.testing.assert_close(
        ours(make_step(embedding, CATEGORY)), losses.MultiSimilarityLoss(alpha=3, beta=40, base=0.4)(embedding, CATEGORY)
    )


@pytest.mark.parametrize("miner", ["MultiSimilarityMiner", {"name": "PairMarginMiner", "pos_margin": 0.1, "neg_margin": 1.2}])
def test_a_pair_miner_of_pml_serves_its_loss(make_step: MakeStep, miner: Any) -> None:
    torch.manual_seed(0)
    embedding = torch.randn(12, 6)
    options = {} if isinstance(miner, str) else {k: v for k, v in miner.items() if k != "name"}
    theirs = getattr(miners, miner if isinstance(miner, str) else miner["name"])(**options)
    value = adapt("ContrastiveLoss")(miner=miner)(make_step(embedding, CATEGORY))
    expected = losses.ContrastiveLoss()(embedding, CATEGORY, theirs(embedding, CATEGORY))
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_the_recipes_miner_can_choose_the_triplets(make_step: MakeStep) -> None:
    embedding = torch.randn(12, 6, dtype=torch.float64)
    rows = torch.tensor([[0, 4, 1], [1, 5, 2], [2, 10, 3]])
    parts = {"a": Triplets(*rows[:2].T), "b": Triplets(*rows[2:].T)}
    loss = adapt("TripletMarginLoss")(margin=0.5, triplets=True)
    assert loss.needs == {"triplets"}
    x = F.normalize(embedding, dim=1)
    hinges = torch.stack([((x[a] - x[p]).norm() - (x[a] - x[n]).norm() + 0.5).clamp(min=0) for a, p, n in rows.tolist()])
    torch.testing.assert_close(loss(make_step(embedding, CATEGORY, parts)), hinges[hinges > 0].mean())


def test_a_loss_needs_no_miner_unless_told() -> None:
    assert adapt("TripletMarginLoss")().needs == frozenset()


@pytest.mark.parametrize(
    "name", ["NormalizedSoftmaxLoss", "ProxyAnchorLoss", "ArcFaceLoss", "ProxyNCALoss", "SoftTripleLoss", "SubCenterArcFaceLoss"]
)
def test_proxy_losses_are_classifiers(make_step: MakeStep, name: str) -> None:
    torch.manual_seed(0)
    loss: Any = adapt(name)(dim=32, categories=4)
    (proxies,) = (p.detach() for p in loss.parameters())
    proxies = proxies if proxies.shape[1] == 32 else proxies.T
    embedding = proxies[:: len(proxies) // 4]  # a proxy of each category
    logits = loss.logits(make_step(embedding, torch.arange(4)).features)
    assert logits.argmax(1).tolist() == [0, 1, 2, 3]


def test_other_losses_are_none() -> None:
    assert not hasattr(adapt("TripletMarginLoss")(), "logits")


def test_all_state_is_in_the_state_dict(make_step: MakeStep) -> None:
    first, second = adapt("ProxyAnchorLoss")(dim=6, categories=4), adapt("ProxyAnchorLoss")(dim=6, categories=4)
    second.load_state_dict(first.state_dict())
    step = make_step(torch.randn(12, 6), CATEGORY)
    assert torch.equal(first(step), second(step))


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_adapted_is_refused_by_name(name: str) -> None:
    assert hasattr(losses, name)
    with pytest.raises(InputError, match=f"pml:{name} cannot be used here: "):
        adapt(name)


def test_an_unknown_loss_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="no loss 'TripletMargin'; did you mean 'TripletMarginLoss'"):
        adapt("TripletMargin")


def test_an_unknown_option_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="pml:TripletMarginLoss has no option 'margn'; did you mean 'margin'"):
        adapt("TripletMarginLoss")(margn=0.1)


def test_a_missing_option_is_named() -> None:
    with pytest.raises(
        InputError, match=r"(?s)ArcFaceLoss needs the option 'categories'.*needs the option 'dim', expected a whole number of at least 1"
    ):
        adapt("ArcFaceLoss")()


def test_a_value_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(InputError, match="pml:TripletMarginLoss.margin = 'big': expected a number"):
        adapt("TripletMarginLoss")(margin="big")
    with pytest.raises(InputError, match="pml:ArcFaceLoss.dim = 0: expected a whole number of at least 1"):
        adapt("ArcFaceLoss")(dim=0, categories=3)
    with pytest.raises(InputError, match="pml:TripletMarginLoss.triplets = 'all': expected true or false"):
        part("loss", "pml:TripletMarginLoss", triplets="all")


def test_an_unknown_miner_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="no miner 'MultiSimilarity'; did you mean 'MultiSimilarityMiner'"):
        adapt("ContrastiveLoss")(miner="MultiSimilarity")


def test_two_miners_are_one_too_many() -> None:
    with pytest.raises(InputError, match="not both: leave out one"):
        adapt("ContrastiveLoss")(miner="MultiSimilarityMiner", triplets=True)


def test_a_label_out_of_range_is_named(make_step: MakeStep) -> None:
    with pytest.raises(InputError, match="classifier of 3, which takes 0 to 2"):
        adapt("ProxyAnchorLoss")(dim=6, categories=3)(make_step(torch.randn(12, 6), CATEGORY))


def test_rows_may_be_alike_by_instance(make_step: MakeStep) -> None:
    embedding, instance = torch.randn(12, 6, dtype=torch.float64), torch.arange(12) // 2
    step = make_step(embedding, CATEGORY)
    step.features = replace(step.features, instance=instance)
    value = adapt("NTXentLoss")(temperature=0.1, labels="instance")(step)
    torch.testing.assert_close(value, losses.NTXentLoss(temperature=0.1)(embedding, instance))
    assert value != losses.NTXentLoss(temperature=0.1)(embedding, CATEGORY)


def test_labels_that_are_not_there_are_refused(make_step: MakeStep) -> None:
    with pytest.raises(InputError, match="some images here have none"):
        adapt("NTXentLoss")(labels="instance")(make_step(torch.randn(12, 6), CATEGORY))
    with pytest.raises(InputError, match="NTXentLoss.labels = 'instances': expected one of .*; did you mean 'instance'"):
        adapt("NTXentLoss")(labels="instances")
    with pytest.raises(InputError, match="ProxyAnchorLoss has weights for each category"):
        adapt("ProxyAnchorLoss")(dim=6, categories=4, labels="instance")


COSINES = [name for name in ADAPTED if isinstance(adapt(name)(**needed(name)).loss.distance, Cosine)]


@pytest.mark.parametrize("name", COSINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_coincide_have_a_loss_and_a_gradient(make_step: MakeStep, name: str, dtype: torch.dtype) -> None:
    """Their similarity is 1, or by rounding more: TupletMarginLoss takes its arc cosine, HistogramLoss its bin."""
    embedding = (2 * torch.eye(3, 6, dtype=dtype))[[0, 1, 2, 0] * 3].requires_grad_()  # alike within a category, and beyond
    loss = adapt(name)(**needed(name))
    value = loss(make_step(embedding, CATEGORY))
    value.backward()
    assert value.isfinite()
    assert embedding.grad is not None
    assert embedding.grad.isfinite().all()


def test_opposite_rows_are_in_the_histogram(make_step: MakeStep) -> None:
    embedding = torch.tensor([[3.0, 0.3], [-3.0, -0.3]])[[0, 0, 1, 1]].requires_grad_()
    value = adapt("HistogramLoss")()(make_step(embedding, torch.tensor([0, 0, 1, 1])))
    torch.testing.assert_close(value, torch.tensor(0.0), atol=1e-3, rtol=0)  # all positives are above all negatives


def test_similarities_keep_their_gradient_at_the_end_of_their_range() -> None:
    angles = torch.tensor([0.0, 1e-4, 1e-3, 0.1, 1.0, torch.pi], dtype=torch.float64, requires_grad=True)
    rows = torch.stack([angles.cos(), angles.sin()], dim=1)
    ours = Cosine()(rows, rows.detach()[:1])[:, 0]
    theirs = distances.CosineSimilarity()(rows, rows.detach()[:1])[:, 0]
    assert float(ours.detach().abs().max()) == pytest.approx(1 - 1e-6, abs=1e-12)
    torch.testing.assert_close(ours, theirs, atol=1.1e-6, rtol=0)
    assert torch.equal(ours[3:5], theirs[3:5])
    (mine,), (other,) = (torch.autograd.grad(v.sum(), angles, retain_graph=True) for v in (ours, theirs))
    assert torch.equal(mine, other)
    (slope,) = torch.autograd.grad(ours.acos().sum(), angles)
    assert slope[:3].abs().max() <= 1  # of an angle, whose own slope is 1


@pytest.mark.parametrize("error", [IndexError, RuntimeError, ValueError, AssertionError, TypeError])
@pytest.mark.parametrize("of", ["loss", "miner"])
def test_an_exception_of_pml_becomes_an_error_in_words(make_step: MakeStep, error: type[Exception], of: str) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error("what went wrong")

    loss = adapt("MultiSimilarityLoss")(miner="MultiSimilarityMiner")
    getattr(loss, of).forward = fail
    embedding = torch.tensor([[3.0], [-1.5]]).expand(2, 6)
    with pytest.raises(InputError, match=rf"pml:MultiSimilarity(Loss|Miner) fails with {error.__name__}: what went wrong") as raised:
        loss(make_step(embedding, CATEGORY[:2]))
    assert "It read 2 embeddings of 6 dimensions, finite, from -1.5 to 3." in str(raised.value)


def test_memory_that_runs_out_is_no_wrong_input(make_step: MakeStep) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("no memory")

    loss = adapt("MultiSimilarityLoss")()
    loss.loss.forward = fail
    with pytest.raises(torch.OutOfMemoryError):
        loss(make_step(torch.randn(12, 6), CATEGORY))


@pytest.mark.parametrize("name", ["P2SGradLoss", "PNPLoss", "RankedListLoss"])
def test_a_loss_that_takes_no_triplets_says_so(make_step: MakeStep, name: str) -> None:
    with pytest.raises(InputError, match=f"pml:{name} takes no pairs or triplets: leave out `triplets` and `miner`"):
        adapt(name)(**needed(name), miner="TripletMarginMiner")(make_step(torch.randn(12, 6), CATEGORY))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_histogram_of_no_numbers_is_refused(make_step: MakeStep, value: float) -> None:
    embedding = torch.randn(12, 6)
    embedding[3, 2] = value
    with pytest.raises(InputError, match="pml:HistogramLoss fails with .* It read 12 embeddings of 6 dimensions, not all finite"):
        adapt("HistogramLoss")()(make_step(embedding, CATEGORY))


def test_triplets_per_anchor_is_a_number_or_all() -> None:
    for value in (2, "all"):
        assert adapt("TripletMarginLoss")(triplets_per_anchor=value).loss.triplets_per_anchor == value
    with pytest.raises(InputError, match="triplets_per_anchor = 'some': expected a whole number of at least 1, or one of 'all'"):
        adapt("TripletMarginLoss")(triplets_per_anchor="some")
