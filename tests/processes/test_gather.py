"""Gathered rows and averaged gradients: two processes equal one."""

import sys

from tests.processes.launch import finished

WORKER = """
import os, sys, torch
import torch.distributed as dist
import torch.multiprocessing as mp
from sbirlib.interfaces import Batch, Features, Step
from sbirlib.gather import gather
from sbirlib.training.average import averaged

def gradients(images, rank, whole, overlap=False):
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 4).double()
    proxies = torch.nn.Parameter(torch.ones(4, 3, dtype=torch.float64))
    mine = slice(0, 8) if whole else slice(4 * rank, 4 * rank + 4)
    count = mine.stop - mine.start
    labels = torch.arange(8)[mine] % 3
    batch = Batch(images[mine], labels, labels, labels)
    local = Features.of(batch, layer(images[mine]))
    step = Step(gather(local, len(batch)), encoder=None, batch=batch, local=local)
    vectors = step.features.vector
    joint = torch.cdist(vectors, vectors + 1).pow(2).mean() + (vectors @ proxies).logsumexp(1).mean()
    own = step.mean(local.embedding.pow(2).sum(1), keep=batch.category == 1)
    unused = torch.nn.Parameter(torch.ones(2))
    parameters = [layer.weight, layer.bias, proxies, unused]
    with averaged(parameters, overlap=overlap):
        (joint + own).backward()
    assert unused.grad is None
    return [p.grad for p in parameters[:3]], step.features.source

def work(rank, expected):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29581"}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    images = torch.arange(48.0, dtype=torch.float64).view(8, 6).sin()
    for overlap in (False, True):
        result, source = gradients(images, rank, False, overlap)
        assert source.tolist() == list(range(8)), source
        worst = max(float((a - b).abs().max()) for a, b in zip(result, expected))
        assert worst < 1e-12, worst
    dist.destroy_process_group()

if __name__ == "__main__":
    torch.set_num_threads(1)
    images = torch.arange(48.0, dtype=torch.float64).view(8, 6).sin()
    expected, _ = gradients(images, 0, True)
    mp.spawn(work, args=(expected,), nprocs=2)
    print("equal")
"""


def test_gradients_of_two_processes_are_those_of_one(tmp_path: object) -> None:
    file = f"{tmp_path}/worker.py"
    with open(file, "w", encoding="utf-8") as script:
        script.write(WORKER)
    process = finished([sys.executable, file])
    assert process.stdout.strip() == "equal", process.stderr
