"""Work shared out among a processor's threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

Each = Callable[[Callable[[Any], object], Iterable[Any]], None]


@contextmanager
def in_threads(count: int) -> Iterator[Each]:
    """Gives what calls a function with each of some items, in so many threads at once, and returns when all are done. An error ends them.

    In these threads torch takes one for each operation: its own, while they wait for each other, keep a core from all others.

    >>> with in_threads(2) as each:
    ...     each(found.append, [1, 2, 3])    # doctest: +SKIP
    """
    with ThreadPoolExecutor(count) as pool:

        def each(work: Callable[[Any], object], items: Iterable[Any]) -> None:
            before = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                deque(pool.map(work, items), maxlen=0)
            finally:
                torch.set_num_threads(before)

        yield each if count > 1 else _one_by_one


def _one_by_one(work: Callable[[Any], object], items: Iterable[Any]) -> None:
    for item in items:
        work(item)
