"""Random streams: draws that depend on a seed and a place in the recipe, apart from the caller's."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.options import refuse
from sbirlib.processes import everyone, from_first, world_size
from sbirlib.spec import Spec

T = TypeVar("T")
logger = logging.getLogger(__name__)


class RandomStream:
    """A random stream of its own. Inside `with stream:` torch's global generators draw from it; the caller's state is untouched."""

    def __init__(self, seed: int, place: str, device: torch.device | None = None) -> None:
        self.number = int.from_bytes(hashlib.sha256(f"{seed}/{place}".encode()).digest()[:7], "big")
        self.cuda = device if device is not None and device.type == "cuda" else None
        self.state: dict[str, Tensor] = {}
        self.outside: dict[str, Tensor] = {}

    def __enter__(self) -> None:
        self.outside = random_state(self.cuda)
        if self.state:
            set_random_state(self.state, self.cuda)
            return
        torch.default_generator.manual_seed(self.number)  # torch.manual_seed would also touch the devices
        if self.cuda is not None:
            torch.cuda.manual_seed(self.number)

    def __exit__(self, *_: object) -> None:
        self.state = random_state(self.cuda)
        set_random_state(self.outside, self.cuda)

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise InputError where the state "rng.cpu" or "rng.cuda", uint8 of shape [n] each, is missing or none of a generator."""
        if "rng.cpu" not in tensors:
            raise InputError("the state of its random stream is missing")
        for name, device in (("rng.cpu", torch.device("cpu")), ("rng.cuda", self.cuda)):
            if name in tensors and device is not None:
                try:
                    torch.Generator(device).set_state(tensors[name])
                except (RuntimeError, TypeError) as error:
                    raise InputError(f"the state of its random stream {name} is none ({str(error).splitlines()[0]})") from error

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from the state "rng.cpu" and "rng.cuda" of a checkpoint, uint8 of shape [n] each."""
        with self:
            pass
        self.state |= {name: tensors[name] for name in self.state if name in tensors}

    def agree(self) -> None:
        """Give all processes the state of rank 0, with a warning, where they differ: a component draws for its own rows outside of an encoder."""
        digests = everyone([int(state.to(torch.int64).sum()) for state in self.state.values()] if world_size() > 1 else [])
        if any(digest != digests[0] for digest in digests):
            logger.warning(
                "random draws differ between processes, as of a loss that draws for its own rows: they go on from those of rank 0"
            )
            self.state = from_first(self.state)


def random_state(device: torch.device | None) -> dict[str, Tensor]:
    """State of torch's global generators, "rng.cpu" and on a GPU "rng.cuda", uint8 of shape [n] each."""
    state = {"rng.cpu": torch.get_rng_state()}
    return state | ({"rng.cuda": torch.cuda.get_rng_state(device)} if device is not None and device.type == "cuda" else {})


def set_random_state(state: Mapping[str, Tensor], device: torch.device | None) -> None:
    """Set torch's global generators to a `random_state`, uint8 of shape [n] each."""
    torch.set_rng_state(state["rng.cpu"])
    if device is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["rng.cuda"], device)


def drawn_from(stream: RandomStream, items: Iterator[T]) -> Iterator[T]:
    """The items of an iterator that draws from the stream alone, whatever its consumer draws in between."""
    while True:
        with stream:
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def make_seeded(spec: Spec, seed: int, place: str, **supplied: Any) -> Any:
    """A component whose initial values depend on the recipe's seed and its place in the recipe alone."""
    with RandomStream(seed, place):
        return spec.make(**supplied)


def make_all(specs: Mapping[str, Spec | None], seed: int) -> dict[str, Any]:
    """Components by their places in the recipe. Raises one InputError with the faults of all that cannot be made, each with its place."""
    components, faults = dict[str, Any](), list[str]()
    for place, spec in specs.items():
        try:
            components[place] = None if spec is None else make_seeded(spec, seed, place)
        except InputError as error:
            faults.append(f"{place}: {error}")
    refuse(faults)
    return components
