from typing import Any

import numpy as np
import pytest
import torch

from sbirlib import synthetic
from sbirlib.errors import InputError
from sbirlib.spec import Spec
from sbirlib_vtd.reptile import interpolate, reptile
from sbirlib_vtd.subtasks import Subtasks


def test_each_subtask_ends_part_of_the_way_to_where_adam_went() -> None:
    """Beside a literal run: Adam whose parameters are put back by hand after every third step."""
    torch.manual_seed(0)
    x, y = torch.randn(20, 4), torch.randn(20, 1)
    ours, theirs = (torch.nn.Linear(4, 1) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    optimizer = reptile(ours.parameters(), lr=0.1, every=3, share=0.25)
    adam = torch.optim.Adam(theirs.parameters(), lr=0.1, fused=True)
    start = [p.detach().clone() for p in theirs.parameters()]
    for step in range(1, 8):
        for model, descent in ((ours, optimizer), (theirs, adam)):
            descent.zero_grad()
            (model(x) - y).square().mean().backward()
            descent.step()
        if step % 3 == 0:
            with torch.no_grad():
                for p, s in zip(theirs.parameters(), start, strict=True):
                    p.copy_(s + 0.25 * (p - s))
            start = [p.detach().clone() for p in theirs.parameters()]
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, other)


def test_its_state_holds_where_a_subtask_began() -> None:
    def run(steps: int, saved: Any = None) -> tuple[Any, torch.Tensor]:
        weight = torch.nn.Parameter(torch.ones(3) if saved is None else saved[1].clone())
        optimizer = reptile([weight], lr=0.1, every=4)
        if saved is not None:
            optimizer.load_state_dict(saved[0])
        for _ in range(steps):
            optimizer.zero_grad()
            weight.pow(2).sum().backward()
            optimizer.step()
        return optimizer.state_dict(), weight.detach()

    assert torch.equal(run(5, run(2))[1], run(7)[1])


def test_all_of_the_way_is_adam_and_none_is_refused() -> None:
    assert torch.equal(interpolate(torch.zeros(2), torch.ones(2), 0.25), torch.full((2,), 0.25))
    with pytest.raises(InputError, match="every = 0: expected a whole number of at least 1"):
        Spec.of("optimizer", {"name": "reptile", "every": 0})
    with pytest.raises(InputError, match="share = 0: expected a number above 0 and of at most 1"):
        Spec.of("optimizer", {"name": "reptile", "share": 0})


def test_no_subtask_comes_twice() -> None:
    labels = synthetic(categories=10, unseen=2, instances=4).train
    sampler = Subtasks(categories=len(np.unique(labels.category)), length=8, pairs=4)
    batches = [tuple(rows) for epoch in range(4) for rows in sampler.batches(labels, seed=0, epoch=epoch)]
    assert len(set(batches)) == len(batches)


def test_a_subtask_stays_within_its_categories() -> None:
    labels = synthetic(categories=10, unseen=2, instances=4).train
    sampler = Subtasks(categories=3, length=5, pairs=4)
    batches = sampler.batches(labels, seed=0, epoch=0)
    count = len(np.unique(labels.category))
    assert len(batches) == 5 * (count // 3)
    subtasks = [{int(c) for rows in batches[i : i + 5] for c in labels.category[rows]} for i in range(0, len(batches), 5)]
    assert all(len(categories) <= 3 for categories in subtasks)
    assert not set.intersection(*subtasks)
    assert all(len(rows) == 8 for rows in batches)
    with pytest.raises(InputError, match=f"subtasks take categories=52, and there are {count}"):
        Subtasks().batches(labels, seed=0, epoch=0)
    with pytest.raises(InputError, match="Subtasks: categories = 0: expected a whole number of at least 1"):
        Subtasks(categories=0)
