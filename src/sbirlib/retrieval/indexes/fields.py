"""Columns of record fields, for filters."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from sbirlib.retrieval.indexes.base import Where
from sbirlib.retrieval.indexes.shards import Record, Value


class Fields:
    """A column of integers for each field, one integer for each distinct value; -1 where a photo lacks the field.

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
        """The mask [N] of photos whose fields have these values, or one of a list of values."""
        mask = np.ones(self._count, dtype=np.bool_)
        for field, wanted in where.items():
            values = wanted if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted]
            numbers = [self._numbers[field][v] for v in values if v in self._numbers[field]]
            column = np.frombuffer(self._columns[field], dtype=np.intc) if self._columns[field] else np.empty(0, np.intc)
            mask[: len(column)] &= np.isin(column, numbers)
            mask[len(column) :] = False
        return mask
