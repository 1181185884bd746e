"""Models and checkpoints: one sealed safetensors file of tensors, and JSON in its metadata. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from sbirlib import sealed
from sbirlib.documents import read_json
from sbirlib.errors import InputError
from sbirlib.training.description import SCHEMA, Description

TABLE = TypeAdapter(dict[str, Any])


def write(path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors, of any shape, their description and the digest of both, in one atomic write."""
    sealed.write(path, tensors, about)


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, of any shape by name, and their description, whatever it says; the digest is checked."""
    tensors, text = _read(path)
    return tensors, {key: value for key, value in read_json(text, TABLE, _place(path)).items() if key != sealed.KEY}


def read_model(path: str | Path) -> tuple[dict[str, Tensor], Description]:
    """The tensors of a saved model, of any shape by name, and its description, as `Pipeline.save` writes it; the digest is checked."""
    tensors, text = _read(path)
    return tensors, read_json(text, SCHEMA, _place(path))


def _read(path: str | Path) -> tuple[dict[str, Tensor], str]:
    if not isinstance(path, str | Path):
        raise InputError(f"a model = {path!r}: expected the path of a file")
    tensors, text = sealed.read(Path(path))
    if not text:
        raise InputError(
            f"{str(path)!r} holds tensors but no recipe, so it is not a model of sbirlib; bare backbone weights go into the option weights=FILE"
        )
    return tensors, text


def _place(path: str | Path) -> str:
    return f"the description in {str(path)!r}"


def of_model(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the model itself, of any shape by name, without those of optimizers, random state and average."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(("optimizer.", "rng.", "ema."))}


def digest(tensors: Mapping[str, Tensor], tables: Any) -> str:
    """SHA-256 of tensors of any shape, by name, and of tables as JSON."""
    sha = hashlib.sha256(json.dumps(tables, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
