"""Each item is worked on once, by several threads at a time, and torch has its threads back afterwards."""

import threading
from collections.abc import Iterator

import pytest
import torch

from sbirlib.threads import in_threads


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def test_each_item_once_and_together() -> None:
    together, done = threading.Barrier(2, timeout=60), []

    def work(item: int) -> None:
        together.wait()  # for the other thread
        assert torch.get_num_threads() == 1
        done.append(item)

    with in_threads(2) as each:
        each(work, range(20))
        assert sorted(done) == list(range(20))


def test_one_thread_is_the_callers_own() -> None:
    done: list[tuple[int, threading.Thread]] = []
    with in_threads(1) as each:
        each(lambda item: done.append((item, threading.current_thread())), [1, 2])
    assert done == [(1, threading.main_thread()), (2, threading.main_thread())]


def test_an_error_ends_all_threads() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 1:
            raise ValueError("item 1")
        done.append(item)
        ended.wait(0.01)

    ended = threading.Event()
    with pytest.raises(ValueError, match="item 1"), in_threads(2) as each:
        each(work, range(10_000))
    assert len(done) < 5000
