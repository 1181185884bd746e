"""Base of encoders that change the outputs of modules inside another encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from sbirlib.encoders.backbone import Backbone
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Batch, Encoder, Features, Wrapper


class Adapter(Wrapper):
    """An encoder whose modules `sites`, by their paths in it, have their outputs changed by `adapters`, one each, for the time of a call.

    Permanent hooks would be copied with the encoder, and act there too. The encoder's own parameters keep their names, so that its weights load as
    ever; a rule {of = "encoder.encoder", frozen = true} keeps them as they are.
    """

    sites: tuple[str, ...]
    adapters: nn.ModuleList

    def forward(self, batch: Batch) -> Features:
        with self.adapted():
            return super().forward(batch)

    def query_vectors(self, batch: Batch) -> Tensor:
        """Vectors of queries [Q, S, W]."""
        with self.adapted():
            return super().query_vectors(batch)

    def gallery_vectors(self, batch: Batch) -> Tensor:
        """Vectors of photos [G, W]."""
        with self.adapted():
            return super().gallery_vectors(batch)

    @contextmanager
    def adapted(self) -> Iterator[None]:
        """Block in which the adapters act."""
        with ExitStack() as stack:
            for site, adapter in zip(self.sites, self.adapters, strict=True):
                stack.enter_context(self.encoder.get_submodule(site).register_forward_hook(hook(adapter)))
            yield


def hook(adapter: nn.Module) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    """Forward hook that gives an adapter a module's input and output, and takes its result as the output."""

    def changed(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        result: Tensor = adapter(inputs[0], output)
        return result

    return changed


def backbones_of(encoder: Encoder) -> dict[str, nn.Module]:
    """The networks of the backbones inside an encoder, by their paths in it. Raises InputError where there is none."""
    modules = {f"{path}.backbone".lstrip("."): module.backbone for path, module in encoder.named_modules() if isinstance(module, Backbone)}
    if not modules:
        raise InputError(f"{type(encoder).__name__} has no backbone to adapt: give an encoder with one, such as encoder='backbone'")
    return modules


def targeted(encoder: Encoder, targets: Sequence[str], fits: Callable[[nn.Module], bool], kind: str) -> dict[str, nn.Module]:
    """Modules inside the encoder's backbones whose paths in their backbone match one of `targets`, by their paths in the encoder.

    Of these only those that `fits` accepts count. Raises InputError for a pattern without one; `kind` names them.
    """
    candidates = {
        root: {path: module for path, module in network.named_modules() if path and fits(module)}
        for root, network in backbones_of(encoder).items()
    }
    paths = sorted({path for modules in candidates.values() for path in modules})
    for target in targets:
        if not any(fnmatchcase(path, target) for path in paths):
            raise InputError(f"targets: no {kind} of the backbone is named {target!r}{nearest(target, paths)}")
    return {
        f"{root}.{path}": module
        for root, modules in candidates.items()
        for path, module in modules.items()
        if any(fnmatchcase(path, target) for target in targets)
    }
