"""Texts in one buffer: a sequence of str without a Python object for each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


class Texts(Sequence[str]):
    """n texts in UTF-8; text i is `buffer[starts[i]:starts[i + 1]]`, with `starts` [n + 1], and is decoded when it is read.

    A text takes its bytes and 8 more, where a list of Python texts takes 57 more. Surrogates, which stand for bytes of file names that are
    no text, are kept.

    >>> texts = Texts.of(["photo/cat/1.jpg", "sketch/cat/1.png"])
    >>> texts[1], len(texts)
    ('sketch/cat/1.png', 2)
    """

    def __init__(self, buffer: NDArray[np.uint8], starts: NDArray[np.int64]) -> None:
        self.buffer, self.starts = buffer, starts

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Copy texts into a buffer."""
        buffer, lengths = bytearray(), array("q")
        for text in texts:
            content = text.encode("utf-8", "surrogatepass")
            buffer += content
            lengths.append(len(content))
        starts = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        return cls(np.frombuffer(bytes(buffer), dtype=np.uint8), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, i: int) -> str: ...

    @overload
    def __getitem__(self, i: slice) -> list[str]: ...

    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[position] for position in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(f"there is no text {i} among {len(self)}")
        i %= len(self)
        return bytes(self.buffer[self.starts[i] : self.starts[i + 1]]).decode("utf-8", "surrogatepass")

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, Texts):
            return np.array_equal(self.starts, other.starts) and np.array_equal(self.buffer, other.buffer)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} texts>"
