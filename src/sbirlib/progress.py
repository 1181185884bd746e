"""A progress bar for long work (tqdm)."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from sbirlib.processes import rank

T = TypeVar("T")
PATIENCE = 2.0  # seconds without a bar, as most work is short


def track(items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
    """Yield the items; after two seconds a bar on stderr shows the progress, if stderr is a terminal. Of several processes rank 0 shows it."""
    yield from tqdm(items, total=total, desc=label, delay=PATIENCE, file=sys.stderr, disable=True if rank() else None)
