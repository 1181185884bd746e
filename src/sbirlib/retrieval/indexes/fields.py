"""Columns of record fields, for filters."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sbirlib.retrieval.indexes.shards import Record, Value


class Column:
    """One integer a photo, one integer for each distinct value of the field; -1 where a photo lacks it.

    >>> column = Column("category")
    >>> column.append([{"path": "a.jpg", "category": "cat"}, {"path": "b.jpg", "category": "dog"}, {"path": "c.jpg"}])
    >>> column.matching(["dog", "owl"])
    array([False,  True, False])
    """

    def __init__(self, field: str) -> None:
        self.field = field
        self._numbers: dict[Value, int] = {}
        self._rows: array[int] = array("i")

    @property
    def empty(self) -> bool:
        """Whether no photo has the field."""
        return not self._numbers

    def append(self, records: Iterable[Record]) -> None:
        """Add photos by their records."""
        for record in records:
            present = self.field in record
            self._rows.append(self._numbers.setdefault(record[self.field], len(self._numbers)) if present else -1)

    def matching(self, wanted: Value | Sequence[Value]) -> NDArray[np.bool_]:
        """The mask [N] of photos with this value, or one of a list of values."""
        values = wanted if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted]
        numbers = [self._numbers[value] for value in values if value in self._numbers]
        rows = np.array(self._rows, dtype=np.intc)
        mask: NDArray[np.bool_] = np.isin(rows, numbers)
        return mask
