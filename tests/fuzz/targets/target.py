"""One format under test: its unaltered files, the forms of those that are altered, and sbirlib's answer to them."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Target:
    """A format: `make` writes its files into a folder, `answer` reads them there (it is the current folder) and returns a value of JSON.

    `forms` has the form (a key of `operations.apply.DRAWS`) of each file that is altered, by a pattern of its path. `agrees` says whether
    an answer to damaged files is as good as that to the unaltered ones.
    """

    name: str
    make: Callable[[Path], None]
    answer: Callable[[Path], Any]
    forms: Mapping[str, str]
    agrees: Callable[[Any, Any], bool] = operator.eq


def digest_of(tensor: Tensor) -> str:
    """Shape and digest of a tensor of any shape: equal for equal bits."""
    array = tensor.detach().cpu().contiguous().numpy()
    return f"{array.dtype}{list(array.shape)} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
