"""Conditional squeeze-excitation: channel gates conditioned on the modality."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from timm.layers import make_divisible
from torch import Tensor, nn

from sbirlib.plugin_api import Backbone, Batch, Features, InputError, PixelMean, PixelStd

Condition = Literal["add", "concatenate"]
# the two linear layers of timm's squeeze-excitation modules, and the gate, which they register last
SQUEEZE_EXCITATION = (("fc1", "fc2", "gate"), ("fc1", "fc2", "sigmoid"), ("conv_reduce", "conv_expand", "gate"))


class Shift(nn.Linear):
    """x + V m for x [B, C, 1, 1] and the tag m [B, 1]; V [C, 1] starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels, bias=False)
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor, tag: Tensor) -> Tensor:  # type: ignore[override]
        """x + V m [B, C, 1, 1]."""
        return x + super().forward(tag)[:, :, None, None]


class Gate(nn.Module):
    """x * 2 sigmoid(W2 relu(W1 gap(x)) + V m), or with V m inside the relu: 1 at the start, where W2 and V are zero."""

    def __init__(self, channels: int, *, reduction: int, condition: Condition, channels_last: bool) -> None:
        super().__init__()
        self.inside, self.channels_last = condition == "concatenate", channels_last
        hidden = make_divisible(channels / reduction, 8)  # as timm sizes its squeeze-excitation: never below 8
        self.reduce, self.expand = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.tag = nn.Linear(1, hidden if self.inside else channels, bias=False)
        for parameter in (*self.expand.parameters(), *self.tag.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, tag: Tensor) -> Tensor:
        """Gated x, of a map [B, C, H, W] (or [B, H, W, C]) or tokens [B, L, C], under the tag [B, 1]."""
        axis = x.ndim - 1 if self.channels_last or x.ndim == 3 else 1  # tokens are [B, L, C]
        squeezed = self.reduce(x.mean([d for d in range(1, x.ndim) if d != axis]))
        shift = self.tag(tag)
        logit = self.expand(torch.relu(squeezed + shift)) if self.inside else self.expand(torch.relu(squeezed)) + shift
        return x * (2 * torch.sigmoid(logit)).reshape([len(x) if d == 0 else -1 if d == axis else 1 for d in range(x.ndim)])


class Cse(Backbone):
    """A backbone whose channel gates are conditioned on the modality tag m, sketch 0 and photo 1 (Lu et al. 2018; Huang et al. 2022).

        s = gate(W2 relu(W1 gap(x)) + V m)        condition "add", in every squeeze-excitation module, as released
        s = gate(W2 relu(W1 [gap(x), m]))         condition "concatenate"

    A model without such modules gets x * 2 sigmoid(W2 relu(W1 gap(x)) + V m) after each of its stages, as its `feature_info` names them
    ([{"module": path, "num_chs": C}, ...]). V, and there W2, are initialised to zero: at first this is the bare backbone, bit for bit. A
    sketch's tag is zero, so V acts on photos only. The new parameters are `self.conditions`; the rest is `Backbone`'s.
    Takes images [B, 3, H, W] and modality [B], which may be mixed. Raises InputError for a model that names no stages.

    Args:
        condition: add V m to the gate's logit, or concatenate m to its input
        reduction: channels a hidden unit, in gates after stages

    >>> encoder = Cse(backbone="resnet18", dim=64, pretrained=False)
    >>> len(encoder.conditions)
    5
    """

    def __init__(
        self,
        *,
        backbone: str | nn.Module = "seresnet50",
        dim: Annotated[int, Ge(0)] = 512,
        pooling: str | None = None,
        pretrained: bool = True,
        weights: str | None = None,
        start: Literal["random", "svd"] = "random",
        mean: PixelMean = None,
        std: PixelStd = None,
        output_stride: Annotated[int, Ge(1)] | None = None,
        timm_options: Mapping[str, Any] | None = None,
        norms: Literal["shared", "modality"] = "shared",
        recalibrate: bool = False,
        condition: Condition = "add",
        reduction: Annotated[int, Ge(1)] = 16,
    ) -> None:
        super().__init__(
            backbone=backbone,
            dim=dim,
            pooling=pooling,
            pretrained=pretrained,
            weights=weights,
            start=start,
            mean=mean,
            std=std,
            output_stride=output_stride,
            timm_options=timm_options,
            norms=norms,
            recalibrate=recalibrate,
        )
        sites = shifts(self.backbone, condition) or gates(self.backbone, reduction, condition)
        if not sites:
            raise InputError(f"{self.name} has no squeeze-excitation and names no stages in feature_info: choose another backbone")
        self.sites = tuple(sites)
        self.conditions = nn.ModuleList(sites.values())

    def forward(self, batch: Batch) -> Features:
        with self.conditioned(batch.modality):
            return super().forward(batch)

    def feature_map(self, images: Tensor, modality: Tensor | None = None) -> Tensor:
        """Map [B, C, H', W'] of images [B, 3, H, W] of a modality [B], before pooling."""
        if modality is None:
            raise InputError("cse is conditioned on the modality: call feature_map(images, modality) with a modality [B]")
        with self.conditioned(modality):
            return super().feature_map(images, modality)

    @contextmanager
    def conditioned(self, modality: Tensor) -> Iterator[None]:
        """Activate the conditions for one call on images of `modality` [B]; permanent hooks would be copied with the encoder, and act there too."""
        tag, reached = modality[:, None].to(self.mean.dtype), set[str]()
        with ExitStack() as stack:
            for site, condition in zip(self.sites, self.conditions, strict=True):
                hook = Hook(site, condition, tag, reached)
                stack.enter_context(self.backbone.get_submodule(site).register_forward_hook(hook))
            yield
        if missed := [site for site in self.sites if site not in reached]:
            raise InputError(f"{self.name} never calls {', '.join(missed)}, so cse cannot condition it: choose another backbone")


@dataclass(frozen=True)
class Hook:
    """Forward hook that replaces a module's output by the condition's, and records the call in `reached`."""

    site: str
    condition: nn.Module
    tag: Tensor
    reached: set[str]

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        self.reached.add(self.site)
        conditioned: Tensor = self.condition(output, self.tag)
        return conditioned


def shifts(model: nn.Module, condition: Condition) -> dict[str, nn.Module]:
    """Shifts after the second linear layer of each squeeze-excitation module, by that layer's path in the model.

    Concatenating the tag to the input of the first layer is the same as a shift after the first.
    """
    by_path: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        children = dict(module.named_children())
        for first, second, gate in SQUEEZE_EXCITATION:
            layer = children.get(second if condition == "add" else first)
            if first in children and tuple(children)[-2:] == (second, gate) and isinstance(layer, nn.Conv2d):
                by_path[f"{path}.{second if condition == 'add' else first}"] = Shift(layer.out_channels)
    return by_path


def gates(model: nn.Module, reduction: int, condition: Condition) -> dict[str, nn.Module]:
    """Gates after each stage, by its path in the model; none where `feature_info` names no stages as timm does."""
    last = getattr(model, "output_fmt", "NCHW") == "NHWC"
    stages = getattr(model, "feature_info", [])
    if not isinstance(stages, list) or not all(isinstance(s, Mapping) and {"module", "num_chs"} <= s.keys() for s in stages):
        return {}
    return {s["module"]: Gate(s["num_chs"], reduction=reduction, condition=condition, channels_last=last) for s in stages}
