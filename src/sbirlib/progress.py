"""A progress bar for work that turns out to be long."""

from collections.abc import Iterable, Iterator
from time import monotonic
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 2.0


def track(items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
    """The items as they come; once that has taken two seconds, a bar on stderr says how far it is."""
    start, bar, task = monotonic(), None, None
    try:
        for done, item in enumerate(items, 1):
            yield item
            if bar is not None and task is not None:
                bar.update(task, completed=done)
            elif monotonic() - start > PATIENCE:
                from rich.console import Console  # only here: most work is short
                from rich.progress import Progress

                bar = Progress(console=Console(stderr=True))
                task = bar.add_task(label, total=total, completed=done)
                bar.start()
    finally:
        if bar is not None:
            bar.stop()
