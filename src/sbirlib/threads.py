"""Work shared out among a processor's threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

Job = Callable[[], object]
Each = Callable[[Iterable[Job]], None]


@contextmanager
def in_threads(count: int) -> Iterator[Each]:
    """Gives what does some jobs in so many threads at once, the caller's among them, and returns when all are done. An error ends them.

    Half of the threads begin at the first job, half at the last: so put what needs Python's lock apart from what does not. In these
    threads torch takes one for each operation: its own, while they wait for each other, keep a core from all others.

    >>> with in_threads(2) as each:
    ...     each([partial(found.append, item) for item in (1, 2, 3)])    # doctest: +SKIP
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that begin later take that over
    try:
        with ThreadPoolExecutor(max(1, count - 1)) as pool:

            def each(jobs: Iterable[Job]) -> None:
                left = deque(jobs)
                others = [pool.submit(_work, left, (left.pop, left.popleft)[i % 2]) for i in range(count - 1)]
                try:
                    _work(left, left.popleft)
                    for other in others:
                        other.result()
                finally:
                    left.clear()  # for the others, if this thread was interrupted while it waited

            yield each
    finally:
        torch.set_num_threads(before)


def _work(left: deque[Job], take: Callable[[], Job]) -> None:
    while True:
        try:
            job = take()
        except IndexError:
            return
        try:
            job()
        except BaseException:
            left.clear()
            raise
