"""Weights of an encoder's blocks divided among processes, for towers that one process cannot train (FSDP, Zhao et al. 2023, section 3)."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sbirlib.encoders.backbone import Backbone
from sbirlib.errors import InputError
from sbirlib.processes import world_size

if TYPE_CHECKING:
    from sbirlib.training.plan import Plan

# optimizers whose step on a part of a parameter is that part of its step
ELEMENTWISE = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def check_sharding(plan: Plan) -> None:
    """Raise InputError, before an image is read, where the weights of the plan's encoder cannot be divided among the processes of the run."""
    encoder, name = plan.model.encoder, type(plan.model.encoder).__name__
    modules = [module for place in places(encoder) for module in place.whole.modules()]
    others = {type(o).__name__ for this in plan.phases for o in this.optimizers.values() if type(o) not in ELEMENTWISE}
    obstacles = {
        "there is one process: start several with torchrun --nproc-per-node N": world_size() == 1,
        f"{name} has no backbone with a sequence of blocks": not modules,
        f"{name} acts inside its backbone by permanent hooks": any(
            module._forward_hooks or module._forward_pre_hooks for module in modules
        ),
        f"{name} recalibrates batch norms (recalibrate = true), for which their weights have to be whole": any(
            isinstance(module, Backbone) and module.recalibrate for module in encoder.modules()
        ),
        "the recipe averages whole weights (ema)": plan.recipe.ema is not None,
        f"the optimizer {'/'.join(sorted(others))} may read parameters as a whole: take adam, adamw or sgd": bool(others),
    }
    if faults := [fault for fault, stands in obstacles.items() if stands]:
        raise InputError(f"shard=True (--shard) divides the weights of the encoder among processes, and cannot here: {'; '.join(faults)}")


@dataclass
class Place:
    """A block inside an encoder: its parent and its name there, the block itself, and the one with divided parameters."""

    parent: nn.Module
    name: str
    whole: nn.Module
    divided: Any = None


def places(encoder: nn.Module) -> list[Place]:
    """The outermost items, with parameters, of sequences of layers in the backbones of an encoder."""
    places, inside = list[Place](), [module.backbone for module in encoder.modules() if isinstance(module, Backbone)]
    while inside:
        parent = inside.pop(0)
        for name, child in parent.named_children():
            if not isinstance(parent, nn.Sequential | nn.ModuleList) or isinstance(child, nn.Sequential | nn.ModuleList):
                inside.append(child)
            elif any(True for _ in child.parameters()):
                places.append(Place(parent, name, child))
    return places


class Shards:
    """Blocks whose parameters are divided among processes, each in the place of the whole block, which is empty meanwhile.

    A divided block gathers its parameters for its own forward and backward pass alone, and averages their gradients. It has the buffers of the
    whole one. Without blocks nothing changes.
    """

    def __init__(self, blocks: Sequence[Place], device: torch.device) -> None:
        self.blocks = blocks
        mesh = _mesh(device) if blocks else None
        for place in blocks:
            place.divided = _divided(place.whole, mesh)
        self.divide()

    @torch.no_grad()
    def divide(self) -> None:
        """Put divided blocks in place, with this process's part of the parameters, and free the memory of the whole ones."""
        for place in self.blocks:
            for part, whole in zip(place.divided.parameters(), place.whole.parameters(), strict=True):
                part.copy_(divided_as(part, whole.detach()))
                whole.data = whole.new_empty(0)
            setattr(place.parent, place.name, place.divided)

    @torch.no_grad()
    def assemble(self) -> None:
        """Put whole blocks in place, with the parameters of all processes; every process must take part."""
        for place in self.blocks:
            for part, whole in zip(place.divided.parameters(), place.whole.parameters(), strict=True):
                layout = torch.channels_last if part.ndim == 4 else torch.contiguous_format  # as the pipeline has it
                whole.data = assembled(part).contiguous(memory_format=layout)
            setattr(place.parent, place.name, place.whole)

    def close(self) -> None:
        """Put whole blocks in place for good, and free the divided ones, which would keep the group of processes past its end."""
        self.assemble()
        if self.blocks:
            self.blocks = ()
            gc.collect()  # they refer to themselves

    @contextmanager
    def whole(self) -> Iterator[None]:
        """A block in which every process has the whole encoder, as to validate it or to save it."""
        self.assemble()
        try:
            yield
        finally:
            self.divide()


def _mesh(device: torch.device) -> Any:
    """All processes in a row, as FSDP takes them."""
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(device.type, (world_size(),))
    getattr(mesh, "_pg_registry", {}).clear()  # PyTorch keeps meshes for ever, and with this entry the group and its threads
    return mesh


def _divided(block: nn.Module, mesh: Any) -> nn.Module:
    """A copy of a block with divided parameters and the block's own buffers."""
    from torch.distributed.fsdp import fully_shard

    twin = copy.deepcopy(block).to(memory_format=torch.contiguous_format)
    for own, module in zip(twin.modules(), block.modules(), strict=True):
        own._buffers.update(module._buffers)
    fully_shard(twin, mesh=mesh, reshard_after_forward=True)
    return twin


def is_divided(tensor: Tensor) -> bool:
    """Whether a tensor is divided among processes, of which each has a part."""
    return hasattr(tensor, "full_tensor")


def assembled(tensor: Tensor) -> Tensor:
    """A tensor of any shape as a whole; for a divided one every process must take part."""
    whole: Tensor = tensor.full_tensor() if is_divided(tensor) else tensor  # type: ignore[attr-defined]
    return whole


def divided_as(like: Tensor, whole: Tensor) -> Tensor:
    """A tensor of any shape that every process has, divided as another one is."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole.contiguous(), like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]


def mixed(parameters: Iterable[Tensor]) -> AbstractContextManager[Any]:
    """A block for operations on lists in which some parameters are divided, and others whole in every process."""
    if not any(map(is_divided, parameters)):
        return nullcontext()
    from torch.distributed.tensor.experimental import implicit_replication

    return implicit_replication()
