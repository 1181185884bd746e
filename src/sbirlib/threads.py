"""Work shared out among a processor's threads."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Item = TypeVar("Item")


def shared_out(work: Callable[[Iterator[Item]], None], items: Sequence[Item], threads: int) -> None:
    """Calls `work` in so many threads, all with one iterator over `items`: who is free takes the next. An error ends them all.

    Meanwhile torch gives each operation one thread: while its own threads wait for each other they keep a core from all others.
    """
    todo = iter(items)
    if threads == 1:
        return work(todo)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            running = [pool.submit(work, todo) for _ in range(threads)]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
            finally:
                deque(todo, maxlen=0)  # so that nobody takes another after an error or an interrupt
        for ended in running:
            ended.result()
    finally:
        torch.set_num_threads(before)
