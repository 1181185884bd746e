"""Adds 40 photos at a time to a new collection, until it is killed, and says so each time they were acknowledged."""

import sys

import torch

from sbirlib.retrieval.indexes.milvus import Milvus

BATCH = 40


def batch(number: int) -> torch.Tensor:
    return torch.randn(BATCH, 8, generator=torch.Generator().manual_seed(number))


def main(uri: str, collection: str, folder: str) -> None:
    index = Milvus(uri=uri, collection=collection, index_type="FLAT")
    for number in range(10_000):
        index.add(batch(number), [{"path": f"{i}.jpg"} for i in range(BATCH * number, BATCH * (number + 1))])
        if number == 0:
            index.save(folder)
        print(number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
