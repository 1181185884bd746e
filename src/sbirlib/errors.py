"""The exception for wrong input, the nearest known name in its message, messages without secrets, and text for a terminal."""

import difflib
import os
from collections.abc import Iterable

SECRETS = ("SBIRLIB_MILVUS_TOKEN", "SBIRLIB_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # variables whose values no message may hold


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


def printable(text: str, *, lines: bool = False) -> str:
    """The text with control characters, such as a terminal's escapes, as Python writes them; with `lines`, breaks stay."""
    return "".join(c if c.isprintable() or (lines and c == "\n") else c.encode("unicode_escape").decode() for c in text)


def without_secrets(message: object) -> str:
    """The message of another library, with asterisks in the place of every token that the environment holds."""
    text = str(message)
    for secret in filter(None, map(os.environ.get, SECRETS)):
        text = text.replace(secret, "***")
    return text
