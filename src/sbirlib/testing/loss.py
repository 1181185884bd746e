"""Checks of losses."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sbirlib import registry
from sbirlib.interfaces import AdversarialLoss, Batch, Encoder, Features, Loss, Miner, Step
from sbirlib.spec import part as make_component
from sbirlib.testing.subject import CheckFailed, Subject, require, runs, seeded
from sbirlib.testing.world import Plain, batch, uneven

FLOATS = (torch.float32, torch.float64)


def step(subject: Subject, loss: Loss, *, dtype: torch.dtype = torch.float32, images: Batch | None = None) -> Step:
    """A step with the inputs of the loss: rows of noise with a gradient, from an encoder that provides them, and a miner."""
    images, encoder = batch() if images is None else images, companion(subject, loss)
    miner: Miner | None = make_component("miner", "batch_hard") if "triplets" in loss.needs else None
    with seeded(0):
        features: Features = encoder(images)

    def leaf(value: Tensor) -> Tensor:
        return value.to(dtype).requires_grad_() if value.is_floating_point() else value

    floating = features.detach().map(leaf)
    floating = replace(floating, images={name: leaf(value.detach()) for name, value in features.images.items()})
    return Step(floating, encoder=encoder, batch=replace(images, images=images.images.to(dtype)), miner=miner)


def companion(subject: Subject, loss: Loss) -> Encoder:
    """An encoder that provides the inputs of the loss: the kit's own, or one of the same distribution."""
    needs = loss.needs - {"triplets", "images"}
    if not needs:
        with seeded(0):
            return Plain()
    plain = subject.name.partition(":")[0]
    own = [e for e in registry.scan().entries if e.kind == "encoder"]
    own.sort(key=lambda e: e.distribution != registry.entry("loss", plain).distribution)
    for entry in own:
        options = dict(subject.beside.get(f"encoder/{entry.name}", {}))
        encoder: Encoder = Subject("encoder", f"{entry.name}@{entry.distribution}", options).make()
        if needs <= encoder.provides:
            return encoder.eval().requires_grad_(False)
    raise CheckFailed(f"{subject.id} needs {', '.join(sorted(needs))}, and no installed encoder provides that")


def terms(loss: Loss, step_: Step) -> dict[str, Tensor]:
    """A loss's terms by name, scalars of shape []; a loss of one scalar has the name "loss"."""
    value = loss(step_)
    return value if isinstance(value, dict) else {"loss": value}


def total(loss: Loss, step_: Step) -> Tensor:
    """Sum of a loss's terms: a scalar of shape []."""
    return torch.stack(list(terms(loss, step_).values())).sum()


def is_a_finite_scalar(subject: Subject) -> None:
    """Each term is a scalar, finite, of float32 at least, and the same again."""
    loss = _made(subject)
    first, second = (terms(loss, step(subject, loss)) for _ in range(2))
    require(bool(first), f"{subject.id}: gives no term")
    for name, value in first.items():
        require(isinstance(value, Tensor) and value.ndim == 0, f"{subject.id}: {name} is {_shape(value)}, expected a scalar tensor")
        require(value.dtype in FLOATS, f"{subject.id}: {name} is {value.dtype}, expected float32 at least")
        require(bool(value.isfinite()), f"{subject.id}: {name} is {value.item()}")
    require(first.keys() == second.keys(), f"{subject.id}: its terms change from call to call")


def gradient_reaches_rows_and_parameters(subject: Subject) -> None:
    """Some rows get a gradient that is not zero, every own parameter a finite one, but for a discriminator's."""
    loss = _made(subject)
    step_ = step(subject, loss)
    total(loss, step_).backward()
    gradients = [v.grad for v in _leaves(step_.features) if v.grad is not None]
    require(any(bool((g != 0).any()) for g in gradients), f"{subject.id}: no gradient reaches the features")
    require(all(bool(g.isfinite().all()) for g in gradients), f"{subject.id}: the gradient of the features is not finite")
    for name, parameter in loss.named_parameters():
        if parameter.requires_grad and not name.startswith("discriminator."):
            reached = parameter.grad is not None and bool(parameter.grad.isfinite().all())
            require(reached, f"{subject.id}: no finite gradient reaches its parameter {name}")


def ignores_the_order_of_rows(subject: Subject) -> None:
    """Of an even batch, and of one of 13 images, of which none may be left out."""
    for images in (batch(), uneven()):
        _ignores_the_order(subject, images)


def _ignores_the_order(subject: Subject, images: Batch) -> None:
    loss = _made(subject)
    step_ = step(subject, loss, dtype=torch.float64, images=images)
    with seeded(1):
        order = torch.randperm(len(step_.features))
    shuffled = step_.features[order]
    if len(step_.batch) == len(order):  # a row an image: the images change places with their rows
        shuffled = _of_images(shuffled, order)
        shuffled_step = Step(shuffled, encoder=step_.encoder, batch=step_.batch[order], miner=step_.miner)
    else:
        shuffled_step = Step(shuffled, encoder=step_.encoder, batch=step_.batch, miner=step_.miner)
    loss.double()
    for (name, value), other in zip(terms(loss, step_).items(), terms(loss, shuffled_step).values(), strict=True):
        require(
            torch.allclose(value, other, rtol=1e-6), f"{subject.id}: {name} is {value.item()}, and {other.item()} with its rows shuffled"
        )


def takes_uneven_batches(subject: Subject) -> None:
    """Thirteen images, of modalities and categories in unequal shares: finite terms, and a gradient."""
    loss = _made(subject)
    step_ = step(subject, loss, images=uneven())
    with runs(subject, "a batch of 13 images in unequal shares"):
        values = terms(loss, step_)
        torch.stack(list(values.values())).sum().backward()
    for name, value in values.items():
        require(bool(value.isfinite()), f"{subject.id}: with a batch of 13 images in unequal shares {name} is {value.item()}")


def is_zero_with_a_gradient_when_nothing_is_valid(subject: Subject) -> None:
    """No row: zero. One category: zero for a loss of triplets, finite for any. Sketches alone: finite. Always with a gradient."""
    loss = _made(subject)
    whole = step(subject, loss).features
    for case, keep in {
        "no row": whole.category < 0,
        "one category": whole.category == 0,
        "sketches alone": whole.modality == 0,
        "one row": torch.arange(len(whole)) == 0,
    }.items():
        step_ = step(subject, loss)
        own = _images(step_.features, keep)
        some = Step(_of_images(step_.features[keep], own), encoder=step_.encoder, batch=step_.batch[own], miner=step_.miner)
        value = total(loss, some)
        require(bool(value.isfinite()), f"{subject.id}: with {case} it is {value.item()}")
        require(value.requires_grad, f"{subject.id}: with {case} it has no gradient: add zero times the rows' sum")
        nothing = case == "no row" or ("triplets" in loss.needs and case != "sketches alone")
        require(not nothing or value.item() == 0, f"{subject.id}: with {case} it is {value.item()}, expected 0")
        value.backward()


def gradient_is_right(subject: Subject) -> None:
    """Its gradient in float64 equals that by differences."""
    loss = _made(subject).double()
    step_ = step(subject, loss, dtype=torch.float64)
    leaves = _leaves(step_.features)

    def value(*given: Tensor) -> Tensor:
        replaced = iter(given)
        features = step_.features.map(lambda v: next(replaced) if v.is_floating_point() else v)
        features = replace(features, images={name: next(replaced) for name in features.images})
        return total(loss, Step(features, encoder=step_.encoder, batch=step_.batch, miner=step_.miner))

    try:
        with seeded(3):
            torch.autograd.gradcheck(value, tuple(leaves), fast_mode=True, eps=1e-6, atol=1e-5, rtol=1e-3)
    except RuntimeError as error:
        raise CheckFailed(f"{subject.id}: its gradient is not that of its value: {str(error).splitlines()[0]}") from error


def leaves_its_parameters_alone(subject: Subject) -> None:
    """The parameters' dtype and device are the same after a call, with or without autocast, on rows of any precision."""
    for autocast in (None, torch.bfloat16, torch.float16):
        for dtype in (torch.float32, torch.float64, autocast or torch.float32):
            loss = _made(subject)
            before = {name: (v.dtype, v.device) for name, v in loss.state_dict().items()}
            with nullcontext() if autocast is None else torch.autocast("cpu", autocast):
                values = terms(loss, step(subject, loss, dtype=dtype))
            after = {name: (v.dtype, v.device) for name, v in loss.state_dict().items()}
            changed = [name for name in before if after[name] != before[name]]
            where = f"rows {dtype}, autocast {autocast}"
            require(not changed, f"{subject.id}: a call changes the dtype or device of {', '.join(changed)} ({where})")
            for name, term in values.items():
                require(term.dtype in FLOATS, f"{subject.id}: {name} is {term.dtype} with {where}, expected float32 at least")


def is_the_same_in_two_processes(subject: Subject) -> None:
    """The mean over two processes, each with half the images, equals one process's value; a count that differs goes through step.mean."""
    loss = _made(subject).double()
    alone = step(subject, loss, dtype=torch.float64)
    modality = alone.batch.modality
    most = len(modality) * 3 // 8  # of one half's images are sketches, so that every count differs between the two
    half = ((modality == 0) & ((modality == 0).cumsum(0) <= most)) | (
        (modality == 1) & ((modality == 1).cumsum(0) <= len(modality) // 2 - most)
    )
    halves = [half, ~half]
    counts: list[list[float]] = [[], []]
    for own, counted in zip(halves, counts, strict=True):
        terms(loss, _Half(alone, own, counted, totals=None))
    sums = [sum(pair) for pair in zip(*counts, strict=True)]
    values = [terms(loss, _Half(alone, own, [], totals=sums)) for own in halves]
    for name, value in terms(loss, alone).items():
        mean = (values[0][name] + values[1][name]) / 2
        close = torch.allclose(mean, value, rtol=1e-6)
        require(close, f"{subject.id}: {name} is {value.item()} in one process, and {mean.item()} on average in two: see step.mean")


def opponents_take_turns(subject: Subject) -> None:
    """An adversarial loss's second turn trains the discriminator, and it alone."""
    loss = _made(subject)
    if not isinstance(loss, AdversarialLoss):
        return
    step_ = step(subject, loss)
    value = loss.discriminator_loss(step_.detach())
    values = value if isinstance(value, dict) else {"loss": value}
    torch.stack(list(values.values())).sum().backward()
    require(all(v.grad is None for v in _leaves(step_.features)), f"{subject.id}: the discriminator's turn reaches the encoder's rows")
    for name, parameter in loss.named_parameters():
        theirs = name.startswith("discriminator.")
        require((parameter.grad is not None) == theirs, f"{subject.id}: the discriminator's turn {'misses' if theirs else 'trains'} {name}")


class _Half(Step):
    """One of two processes: it has all rows, and half of the images; counts in `mean` are those of both once they are known."""

    def __init__(self, whole: Step, own: Tensor, counted: list[float], totals: list[float] | None) -> None:
        local = _of_images(whole.features[own[whole.features.source]], own.nonzero()[:, 0])
        super().__init__(whole.features, encoder=whole.encoder, batch=whole.batch[own], local=local, miner=whole.miner)
        self.counted, self.totals = counted, totals

    def mean(self, values: Tensor, keep: Tensor | None = None) -> Tensor:
        """Mean of values [M], or of those that `keep` [M] marks, over both halves."""
        subset = values if keep is None else values[keep]
        self.counted.append(float(subset.numel()))
        count = self.counted[-1] if self.totals is None else self.totals[len(self.counted) - 1]
        return subset.sum() * 2 / max(count, 1.0) + 0 * values.sum()


def _made(subject: Subject) -> Loss:
    loss: Loss = subject.make()
    loss.load_weights()
    return loss


def _leaves(features: Features) -> list[Tensor]:
    values: list[Tensor] = []

    def note(value: Tensor) -> Tensor:
        if value.is_floating_point():
            values.append(value)
        return value

    features.map(note)
    return [*values, *features.images.values()]


def _of_images(features: Features, images: Tensor) -> Features:
    """The features when these images [n], by position, are the whole batch: rows name their sources by the position there."""
    place = torch.zeros(max([0, *features.source.tolist(), *images.tolist()]) + 1, dtype=torch.int64)
    place[images] = torch.arange(len(images))
    entries = {name: value[images] for name, value in features.images.items()}
    return replace(features, source=place[features.source], images=entries)


def _images(features: Features, keep: Tensor) -> Tensor:
    """The images of the rows that are kept."""
    return torch.tensor(sorted(set(features.source[keep].tolist())), dtype=torch.int64)


def _shape(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__


CHECKS = (
    is_a_finite_scalar,
    gradient_reaches_rows_and_parameters,
    ignores_the_order_of_rows,
    takes_uneven_batches,
    is_zero_with_a_gradient_when_nothing_is_valid,
    gradient_is_right,
    leaves_its_parameters_alone,
    is_the_same_in_two_processes,
    opponents_take_turns,
)
