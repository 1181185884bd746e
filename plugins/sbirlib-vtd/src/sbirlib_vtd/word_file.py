"""Word vectors in a text file: a word a line, then its numbers, as word2vec, GloVe and fastText are published."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sbirlib.plugin_api import InputError

BREAK = re.compile(r"[ _-]+")  # between the words of a name
SHOWN = 5  # words in a message


def read_words(path: str, names: Sequence[str]) -> Tensor:
    """Vectors [C, D] of the names, in their order, float32.

    A name stands in the file as it is, in lower case, or with "_" or "-" between its words; otherwise it gets the mean of its words' vectors.
    Raises InputError for a file that cannot be read or holds other lines, and for names that it lacks.
    """
    wanted = {form for name in names for form in (*forms(name), *BREAK.split(name.lower()))}
    vectors = dict(_lines(path, wanted))
    if missing := [name for name in names if not _known(name, vectors)]:
        first = ", ".join(missing[:SHOWN]) + ", ..." * (len(missing) > SHOWN)
        raise InputError(f"{path} has no vector of {len(missing)} of {len(names)} names: {first}; give in their places words that it has")
    return torch.stack([torch.stack([vectors[word] for word in _known(name, vectors)]).mean(0) for name in names])


def forms(name: str) -> list[str]:
    """The forms in which a name may stand in a file, in the order of trial.

    >>> forms("Wine-bottle")
    ['Wine-bottle', 'wine-bottle', 'wine_bottle']
    """
    joined = (BREAK.sub(sign, name.lower()) for sign in "_-")
    return list(dict.fromkeys([name, name.lower(), *joined]))


def _known(name: str, vectors: dict[str, Tensor]) -> list[str]:
    """The words of the file that a name is the mean of: one of its forms, or else all its words; empty where one is missing."""
    for form in forms(name):
        if form in vectors:
            return [form]
    words = BREAK.split(name.lower())
    return words if all(word in vectors for word in words) else []


def _lines(path: str, wanted: set[str]) -> Iterator[tuple[str, Tensor]]:
    """The words that are wanted, each with its vector [D]; a first line of two whole numbers, word2vec's, is no word."""
    width = 0
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                fields = line.split()
                if not fields or (number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields)):
                    continue
                width = width or len(fields) - 1
                word, *values = line.rstrip().rsplit(" ", width)
                if width == 0 or len(values) != width:
                    raise InputError(f"{path}, line {number}: a word and {max(width, 1)} numbers were expected, with a space between them")
                if word in wanted:
                    yield word, _vector(values, f"{path}, line {number}")
    except InputError:
        raise
    except (OSError, ValueError) as error:  # no UTF-8 is a ValueError
        raise InputError(
            f"{path!r} cannot be read as word vectors ({error}): expected a text file, a word and its numbers a line"
        ) from error


def _vector(values: list[str], place: str) -> Tensor:
    """The vector [D] of a line's numbers."""
    try:
        vector = torch.tensor([float(value) for value in values])
    except ValueError as error:
        raise InputError(f"{place}: {error}: expected a word and {len(values)} numbers") from error
    if not bool(vector.isfinite().all()) or not bool(vector.any()):
        raise InputError(f"{place}: the vector is zero or not finite: leave the line out, or take another file")
    return vector
