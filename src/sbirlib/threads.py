"""Cores, and jobs on a thread pool with one intra-op thread of torch each."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

Job = Callable[[], object]
Run = Callable[[Iterable[Job]], None]


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def in_threads(count: int) -> Iterator[Run]:
    """Yield `run(jobs)`, which runs the jobs on `count` threads, the caller's included, and returns when all have finished.

    The first error ends all threads' work and is raised. Half of the threads take jobs from the front, half from the back: so put jobs
    that hold the GIL at one end and jobs that release it at the other. Torch uses one intra-op thread in each of these threads: its own
    pools, while they wait for each other, keep the cores busy.

    >>> results = []
    >>> with in_threads(2) as run:
    ...     run([lambda item=item: results.append(item) for item in (1, 2, 3)])
    >>> sorted(results)
    [1, 2, 3]
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that start later inherit it
    try:
        with ThreadPoolExecutor(max(1, count - 1)) as pool:

            def run(jobs: Iterable[Job]) -> None:
                queue = deque(jobs)
                others = [pool.submit(_work, queue, (queue.pop, queue.popleft)[i % 2]) for i in range(count - 1)]
                try:
                    _work(queue, queue.popleft)
                    for other in others:
                        other.result()
                finally:
                    queue.clear()  # ends the others too if this thread was interrupted while it waited

            yield run
    finally:
        torch.set_num_threads(before)


def _work(queue: deque[Job], take: Callable[[], Job]) -> None:
    while True:
        try:
            job = take()
        except IndexError:
            return
        try:
            job()
        except BaseException:
            queue.clear()
            raise
