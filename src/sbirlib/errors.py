"""The exception for wrong input, and the nearest known name in its message."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Wrong input; the message states the fault, the expectation and the way out."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Words that end an error about an unknown name.

    >>> nearest("resnet81", ["resnet18", "vgg16"])
    "; did you mean 'resnet18'? (known: resnet18, vgg16)"
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    suggestion = f"; did you mean {close[0]!r}?" if close else ""
    listing = ", ".join(names[:12]) + (f", ... {len(names)} in all" if len(names) > 12 else "")
    return f"{suggestion} (known: {listing or 'none'})" if suggestion else f"; known: {listing or 'none'}"
