"""Each job is done once, by several threads at a time, and torch has its threads back afterwards."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from sbirlib.threads import Job, in_threads


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def test_each_job_once_and_together() -> None:
    together, done = threading.Barrier(2, timeout=60), []

    def job(number: int) -> None:
        together.wait()  # for the other thread
        assert torch.get_num_threads() == 1
        done.append(number)

    with in_threads(2) as run:
        for _ in range(2):
            run([partial(job, number) for number in range(20)])
            assert sorted(done) == list(range(20))
            done.clear()


def test_half_of_the_threads_begin_at_the_end() -> None:
    together, done = threading.Barrier(2, timeout=60), []

    def job(number: int) -> None:
        together.wait()
        done.append((threading.current_thread(), number))

    with in_threads(2) as run:
        run([partial(job, number) for number in range(6)])
    first, second = ([n for thread, n in done if (thread is threading.main_thread()) == main] for main in (True, False))
    assert first == [0, 1, 2]
    assert second == [5, 4, 3]


def test_one_thread_is_the_callers_own() -> None:
    done: list[tuple[int, threading.Thread]] = []
    with in_threads(1) as run:
        run([partial(lambda number: done.append((number, threading.current_thread())), number) for number in (1, 2)])
    assert done == [(1, threading.main_thread()), (2, threading.main_thread())]


@pytest.mark.parametrize("where", [0, -1])
def test_an_error_ends_all_threads(where: int) -> None:
    """Whether it is the caller's thread that meets it or another."""
    done: list[int] = []

    def wrong() -> None:
        raise ValueError("this job")

    def job(number: int) -> None:
        done.append(number)
        ended.wait(0.01)

    ended = threading.Event()
    jobs: list[Job] = [partial(job, number) for number in range(10_000)]
    jobs[where] = wrong
    with pytest.raises(ValueError, match="this job"), in_threads(2) as run:
        run(jobs)
    assert len(done) < 5000
