"""Which photos have which values of a field."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from sbirlib.retrieval.indexes.base import Where
from sbirlib.retrieval.indexes.shards import Record, Value


class Fields:
    """A column of numbers for each field, one for each distinct value; a photo without the field has none (-1).

    >>> fields = Fields()
    >>> fields.append([{"path": "a.jpg", "category": "cat"}, {"path": "b.jpg", "category": "dog"}])
    >>> fields.matching({"category": ["dog", "owl"]})
    array([False,  True])
    """

    def __init__(self) -> None:
        self._count = 0
        self._columns: dict[str, array[int]] = {}
        self._numbers: dict[str, dict[Value, int]] = {}

    def names(self) -> Collection[str]:
        return self._columns.keys()

    def append(self, records: Sequence[Record]) -> None:
        for record in records:
            for field, value in record.items():
                column = self._columns.setdefault(field, array("i"))
                column.extend([-1] * (self._count - len(column)))
                numbers = self._numbers.setdefault(field, {})
                column.append(numbers.setdefault(value, len(numbers)))
            self._count += 1

    def matching(self, where: Where) -> NDArray[np.bool_]:
        """The photos [n] whose fields have these values, or one of a list of them."""
        found = np.ones(self._count, dtype=np.bool_)
        for field, wanted in where.items():
            values = wanted if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted]
            numbers = [self._numbers[field][v] for v in values if v in self._numbers[field]]
            column = np.frombuffer(self._columns[field], dtype=np.intc) if self._columns[field] else np.empty(0, np.intc)
            found[: len(column)] &= np.isin(column, numbers)
            found[len(column) :] = False
        return found
