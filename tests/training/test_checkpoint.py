"""Checkpoints: atomic writes, reading without unpickling, and the state of optimizers."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sbirlib.errors import InputError
from sbirlib.training import checkpoint

FILL = """
import resource, signal, sys, torch
from sbirlib.errors import InputError
from sbirlib.training import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.write(sys.argv[1], {"big": torch.ones(1_000_000)}, {})
except InputError as error:
    print(error)
"""


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3), "step": torch.tensor(3)}
    checkpoint.write(tmp_path / "deep" / "x.safetensors", tensors, {"name": "ü"})
    read, about = checkpoint.read(tmp_path / "deep" / "x.safetensors")
    assert about == {"name": "ü"}
    assert all(torch.equal(read[k], tensors[k]) for k in tensors)


def test_a_full_disk_leaves_the_previous_checkpoint_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.write(path, {"small": torch.ones(3)}, {"n": 1})
    output = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=True).stdout
    assert "could not be written" in output
    assert "untouched" in output
    assert checkpoint.read(path)[1] == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        checkpoint.read(tmp_path / "none.safetensors")
    pickled = tmp_path / "model.pt"
    torch.save({"a": torch.ones(2)}, pickled)
    with pytest.raises(InputError, match="unpickles nothing"):
        checkpoint.read(pickled)
    whole = tmp_path / "x.safetensors"
    checkpoint.write(whole, {"a": torch.ones(100)}, {})
    whole.write_bytes(whole.read_bytes()[:-50])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        checkpoint.read(whole)
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="no recipe"):
        checkpoint.read(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("make", [lambda p: torch.optim.Adam(p, lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)])
def test_an_optimizer_goes_on_as_if_never_stopped(make: object) -> None:
    def run(stop: bool) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.arange(4.0))
        optimizer: torch.optim.Optimizer = make([weight])  # type: ignore[operator]
        for count in range(6):
            if stop and count == 3:
                tensors, rest = checkpoint.pack({"o": optimizer})
                optimizer = make([weight])  # type: ignore[operator]
                checkpoint.unpack({"o": optimizer}, tensors, rest)
            weight.grad = weight.detach().cos()
            optimizer.step()
        return weight.detach()

    assert torch.equal(run(True), run(False))
