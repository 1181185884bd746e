"""Devices by name."""

from __future__ import annotations

import torch

from sbirlib.errors import InputError


def find_device(name: str | None) -> torch.device:
    """The device of that name, or the GPU if there is one. Raises InputError for a GPU that is not there, and for an unknown name."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device = {name!r}: expected 'cpu', 'cuda' or 'cuda:N' ({str(error).splitlines()[0]})") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r} was asked for, but torch finds no GPU of that number: leave it out, or say device='cpu'")
    return device
