"""Compilation of backbones for training (torch.compile), where it pays."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from sbirlib.encoders.backbone import Backbone
from sbirlib.encoders.norms import ModalityNorm
from sbirlib.interfaces import Batch, Encoder
from sbirlib.processes import world_size

logger = logging.getLogger(__name__)
TRIALS, PAYS = 3, 1.05  # timed steps of each kind; least ratio of their times
TRIAL = 8  # images by which it is seen how an encoder calls its backbone


@contextmanager
def compiled(encoder: Encoder, batch: Batch, precision: str) -> Iterator[None]:
    """Compile the backbones inside an encoder for the block, those that are faster for it on this batch; in eval mode they run as they are."""
    modules: list[nn.Module] = []
    inner = {name: module for name, module in encoder.named_modules() if isinstance(module, Backbone)}
    if world_size() > 1:
        logger.warning("compile is left out: batch norms over several processes are not compiled")
        inner = {}
    elif not inner:
        logger.warning("compile is left out: %s has no backbone", type(encoder).__name__)
    try:
        for name, module in inner.items():
            if obstacle := _obstacle(encoder, module.backbone, batch[:TRIAL]):
                logger.warning("compile is left out: %s %s", type(encoder).__name__, obstacle)
                continue
            modules.append(module.backbone)
            with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                _compile(f"{name}.backbone".lstrip("."), module, batch.images)
        yield
    finally:
        for own in modules:
            own._compiled_call_impl = None


@torch.no_grad()
def _obstacle(encoder: Encoder, backbone: nn.Module, batch: Batch) -> str:
    """The reason for which a compiled backbone would not act inside its encoder, or would act otherwise; empty where there is none."""
    if any(isinstance(module, ModalityNorm) for module in backbone.modules()):
        return "has batch norms by modality, which a compiled backbone cannot tell apart"
    calls: list[bool] = []

    def note(module: nn.Module, _: object) -> None:
        calls.append(any(inner._forward_hooks or inner._forward_pre_hooks for inner in module.modules() if inner is not module))

    modes = {module: module.training for module in encoder.modules()}
    hook = backbone.register_forward_pre_hook(note)
    try:
        encoder.eval()(batch)
    finally:
        hook.remove()
        for module, training in modes.items():
            module.training = training
    if not calls:
        return "takes the map of its backbone, which is not compiled"
    return "acts on layers inside its backbone, by hooks that a compiled one passes over" if any(calls) else ""


def _compile(name: str, encoder: Backbone, images: Tensor) -> None:
    """Compile a backbone and time it on images [B, 3, H, W]; where it fails, or is not faster, it stays as it was, as do its weights."""
    module, inputs = encoder.backbone, encoder.prepare(images)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    modes = {inner: inner.training for inner in module.modules()}
    module.train()
    before, start = _seconds(module, inputs, TRIALS), time.monotonic()
    module.compile()
    call: Any = module._compiled_call_impl
    module._compiled_call_impl = lambda *arguments: (call if module.training else module._call_impl)(*arguments)
    try:
        _seconds(module, inputs, 1)
        warm_up = time.monotonic() - start
        ratio = before / _seconds(module, inputs, TRIALS)
        logger.info(
            "compile: %s is %.2f times as fast, after %.0f s%s", name, ratio, warm_up, "" if ratio >= PAYS else ": it stays as it was"
        )
    except Exception as error:  # of the compiler, any
        ratio = 0.0
        logger.warning("compile: %s cannot be compiled, and stays as it was (%s)", name, " ".join(str(error).split())[:300])
    finally:
        module.load_state_dict(state)
        module.zero_grad(set_to_none=True)
        for inner, training in modes.items():
            inner.training = training
    if ratio < PAYS:
        module._compiled_call_impl = None


def _seconds(module: nn.Module, inputs: Tensor, count: int) -> float:
    """Median seconds of a forward and backward pass on inputs [B, 3, H, W]."""
    times = []
    for _ in range(count + (count > 1)):  # the first one warms up
        start = time.monotonic()
        module(inputs).float().square().mean().backward()
        if inputs.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.monotonic() - start)
    return median(times[1:] or times)
