"""Tracing of an encoder to a graph for any number of images of one side."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable
from types import FunctionType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from sbirlib.exchange.substitutes import SUBSTITUTES
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder

Side = Literal["query", "gallery"]
EXAMPLES = 3  # images of the example batch; the graph takes any number
MODALITY = {"query": SKETCH, "gallery": PHOTO}
FILLED = {"full": None, "full_like": None, "zeros": 0, "zeros_like": 0, "ones": 1, "ones_like": 1}  # creation of a tensor of one value
REDUCED = ("any", "all")  # of a whole tensor
SAME = ("getitem", "to", "long", "clone", "detach", "contiguous", "cat")  # results that have their arguments' value
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in COMPARISONS},
    **dict.fromkeys(("and", "bitwise_and", "logical_and"), operator.and_),
    **dict.fromkeys(("or", "bitwise_or", "logical_or"), operator.or_),
    **dict.fromkeys(("invert", "bitwise_not", "logical_not"), lambda value: not value if isinstance(value, bool) else ~value),
    "bool": bool,
    "maximum": max,
    "minimum": min,
}


def trace(encoder: Encoder, side: Side | Literal["both"], size: int) -> ExportedProgram:
    """The graph of an encoder's vectors of a side, with the batch's size open, from images [N, 3, S, S] with S = `size`.

    "query" gives [N, S_q, V], "gallery" [N, V], "both" the two from one pass of photos, for encoders whose sides are the same. Raises an
    exception of torch.export for an encoder whose course depends on the values of images.
    """
    images = torch.zeros(EXAMPLES, 3, size, size)
    with torch.no_grad():
        return torch.export.export(_Side(encoder, side), (images,), dynamic_shapes=({0: Dim("images")},), strict=False)


def same_sides(query: ExportedProgram, gallery: ExportedProgram) -> bool:
    """Whether the vectors of a query, without their dimension S = 1, are computed as those of the gallery are."""
    ours, theirs = _operations(query), _operations(gallery)
    axes = {"aten.slice.Tensor", "aten.unsqueeze.default"}  # [:, None], which leaves every number
    return ours[: len(theirs)] == theirs and all(name in axes for name, _ in ours[len(theirs) :])


def _operations(program: ExportedProgram) -> list[tuple[str, str]]:
    """The operations that an output depends on, in order, with their arguments."""
    graph = program.graph_module.graph
    graph.eliminate_dead_code()
    return [(str(node.target), f"{node.args} {node.kwargs}") for node in graph.nodes if node.op not in ("placeholder", "output")]


class _Side(nn.Module):
    """The vectors of a side as a function of images alone."""

    def __init__(self, encoder: Encoder, side: str) -> None:
        super().__init__()
        self.encoder, self.side = encoder, side

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Vectors of queries [N, S_q, V], of photos [N, V], or both, for images [N, 3, S, S]."""
        if self.side == "both":
            vectors = self._vectors("gallery", images)
            return vectors[:, None, :], vectors
        return (self._vectors(self.side, images),)

    def _vectors(self, side: str, images: Tensor) -> Tensor:
        with OneSide():
            modality, unknown = (torch.full(images.shape[:1], value, device=images.device) for value in (MODALITY[side], -1))
            batch = Batch(images, modality, unknown, unknown)
            return self.encoder.query_vectors(batch) if side == "query" else self.encoder.gallery_vectors(batch)


class OneSide(TorchFunctionMode):
    """Mode in which a tensor that has one value throughout, such as the modality of one side's images, is known by that value.

    Python branches on such tensors, and takes rows by them: `if photo.any()`, `images[modality == SKETCH]`. Here these are all images, or none,
    so that a graph has one course, and the batch's size stays open. `len` is kept from fixing it, checks of values (`torch.allclose`) pass, and
    operations without a translation are replaced (`substitutes.py`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.values = WeakIdKeyDictionary()

    def __enter__(self) -> OneSide:
        builtins.len = symbolic_len
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        builtins.len = plain_len

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options, own_name = kwargs or {}, getattr(func, "__name__", "")
        name = own_name.strip("_")
        if func in SUBSTITUTES:
            return SUBSTITUTES[func](*args, **options)
        first: Any = args[0] if args else None
        value = self._value(first)
        if own_name in ("__bool__", "__int__", "item") and value is not None:
            return value
        if name == "nonzero" and isinstance(value, bool) and first.ndim == 1 and not options:
            return torch.arange(first.shape[0] if value else 0, device=first.device)[:, None]
        if name in ("getitem", "setitem") and isinstance(mask := self._value(args[1]), bool):
            return self._of_rows(mask, first, *args[2:])
        result = func(*args, **options)
        if name == "setitem" or (isinstance(result, Tensor) and result is first):
            self.values.pop(first, None)  # it was written to
        if isinstance(result, Tensor) and 0 not in map(known_side, result.shape):
            self._note(result, self._value_of(name, args, options))
        return result

    def _of_rows(self, mask: bool, tensor: Tensor, *values: Any) -> Tensor | None:
        """`tensor[mask]`, or `tensor[mask] = value`, for a mask of all rows or none, with the tensor [N, ...]."""
        if values:
            self.values.pop(tensor, None)
            if mask:
                tensor.copy_(values[0])
            return None
        if not mask:
            return tensor[:0]
        rows = tensor.clone()
        self._note(rows, self._value(tensor))
        return rows

    def _value_of(self, name: str, args: Any, options: Any) -> Any:
        """The value of a function's result, where it has one throughout."""
        if name in FILLED:
            return self._value(options.get("fill_value", args[-1]) if FILLED[name] is None else FILLED[name])
        values = [self._value(argument) for argument in (args[0] if name == "cat" else args)]
        if name in SAME:
            return values[0] if name != "cat" or all(value == values[0] for value in values) else None
        if name in REDUCED:
            return values[0] if values[1:] == [] and not options else None
        return ELEMENTWISE[name](*values) if name in ELEMENTWISE and None not in values and not options else None

    def _value(self, argument: Any) -> Any:
        """The value of a number, or of a tensor that has one throughout; None for others."""
        return self.values.get(argument) if isinstance(argument, Tensor) else argument if isinstance(argument, int | float) else None

    def _note(self, tensor: Tensor, value: Any) -> None:
        if value is not None:
            self.values[tensor] = value


plain_len = len


def symbolic_len(value: Any) -> Any:
    """`len`, which Python holds to an int: of an object whose `__len__` is written in Python its result, be it a symbol for the batch's size."""
    method = getattr(type(value), "__len__", None)
    return method(value) if isinstance(method, FunctionType) else plain_len(value)


def known_side(side: int | torch.SymInt) -> int | None:
    """A side of a tensor, where it is a number."""
    return side if isinstance(side, int) else None
