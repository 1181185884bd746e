"""Models and checkpoints: one safetensors file of tensors, and JSON in its metadata. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.files import atomic_write


def write(path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors, of any shape, and their description, in one atomic write."""
    with atomic_write(path) as partial:
        save_file(dict(tensors), partial, metadata={"sbirlib": json.dumps(about)})


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, of any shape by name, and their description."""
    if not isinstance(path, str | Path):
        raise InputError(f"a model = {path!r}: expected the path of a file")
    source = Path(path)
    try:
        if not source.is_file():
            raise InputError(f"there is no file {str(source)!r}")
        with safetensors.safe_open(source, framework="pt") as file:
            about = (file.metadata() or {}).get("sbirlib")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(
            f"{str(source)!r} is not a whole safetensors file ({error}): sbirlib saves and loads nothing else, and unpickles nothing"
        ) from error
    if about is None:
        raise InputError(
            f"{str(source)!r} holds tensors but no recipe, so it is not a model of sbirlib; bare backbone weights go into the option weights=FILE"
        )
    return tensors, _description(about, source)


def _description(text: str, source: Path) -> dict[str, Any]:
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        raise InputError(f"{str(source)!r} holds tensors, but its description is damaged: save the model again, or take an earlier copy")
    return about


def read_model(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a saved model, of any shape by name, and its description, which has all that `Pipeline.save` writes."""
    tensors, about = read(path)
    types = {"recipe": dict, "categories": list, "instances": int, "exported": bool}
    if not all(isinstance(about.get(key), kind) for key, kind in types.items()):
        raise InputError(f"{str(path)!r} is no model: its description is damaged, or by another program; save the model again")
    return tensors, about


def of_model(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the model itself, of any shape by name, without those of optimizers and random state."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(("optimizer.", "rng."))}


def pack(optimizers: Mapping[str, torch.optim.Optimizer]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of optimizers: tensors by name, of the shape of their parameters, and the rest as JSON."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        plain: dict[str, dict[str, Any]] = {}
        for number, values in state["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{name}.{number}.{key}"] = value.detach().to("cpu", copy=True).contiguous()
                else:
                    plain.setdefault(str(number), {})[key] = value
        rest[name] = {"groups": state["param_groups"], "plain": plain}
    return tensors, rest


def unpack(optimizers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
    """Load the optimizers' state from `pack`, tensors in the shape and layout of their parameters: fused optimizers read memory, not indices."""
    for name, optimizer in optimizers.items():
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Any]] = {int(n): dict(values) for n, values in rest[name]["plain"].items()}
        prefix = f"optimizer.{name}."
        for key, value in tensors.items():
            if key.startswith(prefix):
                number, entry = key.removeprefix(prefix).split(".", 1)
                like = parameters[int(number)]
                laid_out = torch.empty_like(like, dtype=value.dtype).copy_(value) if value.shape == like.shape else value
                state.setdefault(int(number), {})[entry] = laid_out
        optimizer.load_state_dict({"state": state, "param_groups": rest[name]["groups"]})


def digest(tensors: Mapping[str, Tensor], tables: Any) -> str:
    """SHA-256 of tensors of any shape, by name, and of tables as JSON."""
    sha = hashlib.sha256(json.dumps(tables, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
