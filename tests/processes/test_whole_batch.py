"""Batch norms and random draws over shares of a batch, of any sizes, equal those of the whole batch."""

from __future__ import annotations

from pathlib import Path

from tests.processes.launch import run

WORKER = """
import itertools, torch
import torch.nn.functional as F
from torch import nn
from sbirlib.gather import gather_rows
from sbirlib.processes import join, leave, rank
from sbirlib.training.average import averaged
from sbirlib.whole_batch import whole_batch

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
join()

def shares(whole, sizes):
    start = sum(sizes[:rank()])
    return whole[start : start + sizes[rank()]]

def check_norms(sizes, shape, frozen, memory):
    images = torch.arange(torch.tensor((sum(sizes), *shape)).prod(), dtype=torch.float64).sin().view(sum(sizes), *shape)
    if memory and len(shape) == 3:
        images = images.contiguous(memory_format=torch.channels_last)
    def make():
        torch.manual_seed(0)
        norm = (nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d)(shape[0], affine=not frozen)
        if not frozen:
            nn.init.normal_(norm.weight)
        return norm
    weights = torch.arange(images.numel(), dtype=torch.float64).cos().view(images.shape)
    whole, own = make(), make()
    inputs = images.clone().requires_grad_()
    (whole(inputs) * weights).sum().backward()
    part = shares(images, sizes).clone().requires_grad_()
    with averaged(list(own.parameters()), overlap=False):
        with whole_batch(draws=False):
            outputs = own(part)
        (outputs * shares(weights, sizes)).sum().mul(2).backward()  # gradients are averaged over two processes
    torch.testing.assert_close(gather_rows(outputs.detach()), make()(images).detach())
    torch.testing.assert_close(gather_rows(part.grad) / 2, inputs.grad)
    for (name, one), other in zip(whole.named_parameters(), own.parameters()):
        torch.testing.assert_close(other.grad, one.grad, msg=name)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(own, name), getattr(whole, name))

def check_draws(sizes):
    images = torch.ones(sum(sizes), 3, 4, 5)
    calls = {
        "rand_like": torch.rand_like, "randn_like": torch.randn_like, "bernoulli": lambda x: torch.bernoulli(x / 2),
        "normal_": lambda x: x.clone().normal_(), "dropout": lambda x: F.dropout(x, 0.4, True),
        "module": nn.Dropout2d(0.3).train(), "path": lambda x: x * x.new_empty(len(x), 1, 1, 1).bernoulli_(0.5),
        "sized": lambda x: torch.randn(len(x), 2), "last": lambda x: F.dropout(x.contiguous(memory_format=torch.channels_last), 0.4, True),
        "scalar": lambda x: x * torch.rand(()) + torch.rand(1),
        "eval": lambda x: F.dropout(x, 0.4, False),
    }
    for name, call in calls.items():
        torch.manual_seed(3)
        expected = call(images)
        torch.manual_seed(3)
        with whole_batch(draws=True):
            own = call(shares(images, sizes))
        assert torch.equal(gather_rows(own), expected), name
    torch.manual_seed(3)
    with whole_batch(draws=True):
        generator = torch.Generator().manual_seed(rank())
        first = torch.rand(4, generator=generator)
    assert torch.equal(first, torch.rand(4, generator=torch.Generator().manual_seed(rank()))), "a generator of its own is let be"

for sizes, shape, frozen, memory in itertools.product(((4, 4), (5, 3), (8, 0)), ((3,), (3, 2, 5)), (False, True), (False, True)):
    check_norms(sizes, shape, frozen, memory)
def check_nested():
    images, norm = torch.arange(24.0).view(8, 3).sin(), nn.BatchNorm1d(3)
    own = shares(images, (4, 4))
    for norms, expected in ((True, gather_rows(own)), (False, own)):  # an inner mode leaves norms to the outer one
        with whole_batch(draws=False, norms=norms), whole_batch(draws=True, norms=False):
            outputs = norm(own)
        whole = norm(expected)
        torch.testing.assert_close(gather_rows(outputs.detach()) if norms else outputs, whole.detach() if norms else whole)

check_nested()
for sizes in ((4, 4), (5, 3), (7, 0)):
    check_draws(sizes)
leave()
print("equal")
"""


def test_shares_have_the_norms_and_draws_of_the_whole_batch(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    process = run(2, str(tmp_path / "worker.py"))
    assert process.stdout.count("equal") == 2, process.stderr  # lines of two processes may run together
