"""Any timm model as an encoder."""

import difflib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbirlib.encoders.weights import fetch_weights, put_weights, read_weights
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder, Features

OURS = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "features_only", "in_chans", "num_classes")
OPTIONS = {"global_pool": "pooling", "output_stride": "output_stride"}


class Backbone(Encoder):
    """A timm model, `self.backbone`, and a linear `self.embedding` to `dim` (0: none, the model's own width): f(x) = W phi(x) + b.

    Takes images [B, 3, H, W] in [0, 1] and gives one row of D = dim an image. It normalises them itself, by the model's own
    statistics unless `mean` and `std` are given (a number or three), and resizes them where the model takes one size only.
    `timm_options` go to `timm.create_model` as they are. Building neither fetches nor reads: `load_weights` does, from the file
    `weights` or else, where `pretrained`, by timm's name; until then, or until a state is loaded, images are refused.
    Raises InputError for an unknown backbone, for options that timm refuses, and for weights that are not there or do not fit.

    >>> encoder = Backbone(backbone="resnet18", dim=64, pretrained=False)
    >>> encoder.dim, encoder.backbone.num_features
    (64, 512)
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        dim: int = 512,
        pooling: str | None = None,
        pretrained: bool = True,
        weights: str | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        output_stride: int | None = None,
        timm_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if dim < 0:
            raise InputError(f"dim must be at least 1, or 0 for the backbone's own width, got {dim}")
        options = dict(timm_options or {})
        check(backbone, options)
        own = {"global_pool": pooling, "output_stride": output_stride}
        options |= {name: value for name, value in own.items() if value is not None}
        self.name, self.weights, self.ready = backbone, weights, not (pretrained or weights)
        self.create = partial(timm.create_model, backbone, num_classes=0, **options)
        try:
            self.backbone: nn.Module = self.create(pretrained=False)
        except Exception as error:  # models refuse in every way there is
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"timm refuses backbone={backbone!r} with options {options} ({reason}): change or leave them out") from error

        cfg: dict[str, Any] = self.backbone.pretrained_cfg
        self.register_buffer("mean", three("mean", cfg["mean"] if mean is None else mean), persistent=False)
        self.register_buffer("std", three("std", cfg["std"] if std is None else std), persistent=False)
        if not (self.std > 0).all():
            raise InputError(f"std must be positive, got {std}")
        size = options.get("img_size", cfg["input_size"][-2:])
        strict = cfg.get("fixed_input_size") and getattr(getattr(self.backbone, "patch_embed", None), "strict_img_size", True)
        self.size = ((size, size) if isinstance(size, int) else tuple(size)) if strict else None

        width: int = getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features
        self.embedding = nn.Linear(width, dim) if dim else nn.Identity()
        self.dim = self.vector_dim = dim or width

    def forward(self, batch: Batch) -> Features:
        return Features.of(batch, self.embedding(self.backbone(self.prepare(batch.images))))

    def feature_map(self, images: Tensor, modality: Tensor | None = None) -> Tensor:
        """timm's `forward_features` of images [B, 3, H, W]: the map before pooling. `modality` [B] is for encoders that need it."""
        features: Tensor = self.backbone.forward_features(self.prepare(images))  # type: ignore[operator]
        return features

    def prepare(self, images: Tensor) -> Tensor:
        """(x - mean) / std, resized where the model takes one size only; channels last in memory, where most convolutions are quicker."""
        if not self.ready:
            raise InputError(f"the pretrained weights of {self.name} are not loaded: fit and load do it; else call load_weights() first")
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise InputError(f"images [B, 3, H, W] in [0, 1] were expected, got {images.dtype} {list(images.shape)}")
        if self.size is not None and images.shape[2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        return torch.addcmul(-self.mean / self.std, images, 1 / self.std).contiguous(memory_format=torch.channels_last)

    def load_weights(self) -> None:
        if self.ready:
            return
        cfg: dict[str, Any] = self.backbone.pretrained_cfg  # type: ignore[assignment]
        if self.weights:
            classifier = cfg.get("classifier") or ()
            dropped = (classifier,) if isinstance(classifier, str) else classifier
            put_weights(self.backbone, read_weights(self.weights), source=self.weights, dropped=dropped)
        else:  # through timm, which knows how the published file becomes this model's state
            overlay = {"file": fetch_weights(self.name, cfg.get("hf_hub_id")), "custom_load": False}
            self.backbone.load_state_dict(self.create(pretrained=True, pretrained_cfg_overlay=overlay).state_dict())
        self.ready = True

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """A state that covers the backbone, wherever this encoder is nested, is as good as its pretrained weights."""
        own = self.backbone.state_dict()
        self.ready |= all(getattr(state_dict.get(f"{prefix}backbone.{name}"), "shape", None) == own[name].shape for name in own)
        super()._load_from_state_dict(state_dict, prefix, *args)


def check(backbone: str, options: Mapping[str, Any]) -> None:
    """Refuse a name that timm does not know, which includes those it would fetch, and options that are not the user's to set."""
    if not timm.is_model(backbone) or ("." in backbone and not timm.is_model_pretrained(backbone)):
        close = difflib.get_close_matches(backbone, timm.list_models(pretrained="." in backbone), n=5)
        raise InputError(f"timm has no model {backbone!r}; nearest: {', '.join(close) or 'none'}; timm.list_models() names all")
    for name in options:
        if name in OPTIONS:
            raise InputError(f"timm_options may not set {name!r}: give {OPTIONS[name]}= instead")
        if name in OURS:
            raise InputError(f"timm_options may not set {name!r}, which the encoder sets itself: leave it out")


def three(name: str, value: float | Sequence[float]) -> Tensor:
    """A number or three, one a channel, as [1, 3, 1, 1]."""
    values = [value] * 3 if isinstance(value, int | float) else list(value)
    if len(values) != 3:
        raise InputError(f"{name} must be a number or three, one a channel, got {value}")
    return torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1)
