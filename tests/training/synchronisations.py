"""Count of operations for which a GPU would be waited for: those whose result, or its shape, the program reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = (
    "_local_scalar_dense",
    "nonzero",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
    "masked_select",
    "equal",
    "is_nonzero",
)


class Synchronisations(TorchDispatchMode):
    """Counts them by operation while the mode is on and not `paused`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.partition("::")[2]
        masks = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            isinstance(leaf, Tensor) and leaf.dtype in (torch.bool, torch.uint8) for leaf in tree_leaves(args[1])
        )
        if not self.paused and (name in READS or masks):
            self.counts[f"{name} by mask" if masks else name] += 1
        return func(*args, **(kwargs or {}))

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """Count in the block, reads of whole tensors too."""
        reads = {name: getattr(Tensor, name) for name in ("tolist", "numpy", "cpu")}

        def counting(name: str) -> Any:
            def read(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
                if not self.paused:
                    self.counts[name] += 1
                return reads[name](tensor, *arguments, **options)

            return read

        with self, mock.patch.multiple(Tensor, **{name: counting(name) for name in reads}):
            yield self.counts
