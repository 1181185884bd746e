"""Entry into an encoder behind one of its modules: what runs before it is computed once, and left out afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sbirlib.encoders.backbone import Backbone
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder

CLOSE = 1e-4  # largest difference, relative to the largest value


class Entry:
    """The place in an encoder behind its module `path`, which runs once a call.

    `features` gives the output of that module for images, and inside `entered` such outputs, as a batch's images, take the way of the rest.
    `below` are the modules that end before that one does or with it, each the outermost of its kind; a small batch shows which.
    """

    def __init__(self, encoder: Encoder, path: str, batch: Batch) -> None:
        self.encoder, self.path, self.module = encoder, path, encoder.get_submodule(path)
        self.fronts = [each for each in encoder.modules() if isinstance(each, Backbone) and self.module in set(each.modules())]
        ended: list[nn.Module] = []
        with ExitStack() as stack, torch.no_grad():
            for module in encoder.modules():
                stack.callback(module.register_forward_hook(partial(_note, ended)).remove)
            self.features(batch)
        inner = {child for module in ended for child in module.modules() if child is not module}
        self.below = [module for module in dict.fromkeys(ended) if module not in inner]

    def features(self, batch: Batch) -> Tensor:
        """The module's output [B, ...], float32, of images [B, 3, H, W]; what comes after it is not computed."""
        with torch.no_grad(), self.module.register_forward_hook(_stop):
            try:
                self.encoder(batch)
            except _Reached as reached:
                if not isinstance(reached.output, Tensor) or len(reached.output) != len(batch):
                    raise InputError(f"cache.module: {self.path} gives no tensor with a row an image: choose another module") from None
                return reached.output.float()
        raise InputError(f"cache.module: the encoder never runs {self.path}: choose another module")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """A batch's images are outputs of the module [B, ...] inside the block."""
        try:
            for module in self.below:
                module._compiled_call_impl = _same
            for front in self.fronts:
                setattr(front, "prepare", _laid_out)  # noqa: B010  a method, for this object alone
            yield
        finally:
            for module in self.below:
                module._compiled_call_impl = None
            for front in self.fronts:
                del front.prepare

    @torch.enable_grad()
    def cut_off(self, batch: Batch, parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        """Those of the parameters on which the embedding of images [B, 3, H, W] depends, and that of their features does not."""
        flags = [parameter.requires_grad for parameter in parameters]
        for parameter in parameters:
            parameter.requires_grad_(True)
        whole, features = reached(self.encoder(batch).embedding, parameters), replace(batch, images=self.features(batch))
        try:
            with self.entered():
                rest = reached(self.encoder(features).embedding, parameters)
        except Exception:  # `check` says why
            rest = whole
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)
        return [parameter for parameter, before, after in zip(parameters, whole, rest, strict=True) if before and not after]

    @torch.no_grad()
    def check(self, batch: Batch) -> None:
        """Raise InputError where the way through the features is not the encoder's own, for images [B, 3, H, W]; in eval mode."""
        whole, features = self.encoder(batch), replace(batch, images=self.features(batch))
        try:
            with self.entered():
                parts = self.encoder(features)
        except Exception as error:  # an encoder refuses in any way that it likes
            raise self._error(f"{type(error).__name__}: {error}") from error
        for name in ("embedding", "vector"):
            expected, result = getattr(whole, name), getattr(parts, name)
            if expected.shape != result.shape or float((expected - result).abs().max()) > CLOSE * float(expected.abs().max()):
                raise self._error(f"its {name} is another then")

    def _error(self, reason: str) -> InputError:
        return InputError(
            f"cache.module: the encoder cannot be entered behind {self.path} ({reason}): choose a module through whose output alone the image "
            "reaches what follows, such as a later stage or the whole backbone"
        )


def reached(embedding: Tensor, parameters: Sequence[nn.Parameter]) -> list[bool]:
    """Whether an embedding [B, D] depends on each parameter."""
    if not parameters or not embedding.requires_grad:
        return [False] * len(parameters)
    return [gradient is not None for gradient in torch.autograd.grad(embedding.sum(), list(parameters), allow_unused=True)]


class _Reached(Exception):
    """The module has run; `output` is what it gave."""

    def __init__(self, output: Any) -> None:
        self.output = output


def _stop(module: nn.Module, _: Any, output: Any) -> None:
    raise _Reached(output)


def _note(ended: list[nn.Module], module: nn.Module, *_: Any) -> None:
    ended.append(module)


def _same(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _laid_out(features: Tensor) -> Tensor:
    """Features [B, ...] as `Backbone.prepare` lays images out in memory."""
    return features.contiguous(memory_format=torch.channels_last) if features.ndim == 4 else features
