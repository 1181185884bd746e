"""Checkpoints: atomic writes, reading without unpickling, and the state of optimizers."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sbirlib.errors import InputError
from sbirlib.spec import Spec
from sbirlib.training import checkpoint
from sbirlib.training.description import OptimizerState
from sbirlib.training.optimizer_state import pack, unpack

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


def through_json(tensors: dict[str, torch.Tensor], rest: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, OptimizerState]]:
    """The state as a checkpoint gives it back."""
    return tensors, {name: OptimizerState.model_validate_json(json.dumps(state)) for name, state in rest.items()}


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


SPECS = {name: Spec.of("optimizer", {"name": name, "lr": 0.1}) for name in ("adam", "adamw", "sgd")}


@pytest.mark.parametrize("name", SPECS)
def test_an_optimizer_goes_on_as_if_never_stopped(name: str) -> None:
    spec = SPECS[name]

    def run(stop: bool) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.arange(4.0))
        optimizer: torch.optim.Optimizer = spec.make([weight])
        for count in range(6):
            if stop and count == 3:
                tensors, rest = through_json(*pack({"o": optimizer}))
                optimizer = spec.make([weight])
                unpack({"o": optimizer}, tensors, rest, {"o": spec})
            weight.grad = weight.detach().cos()
            optimizer.step()
        return weight.detach()

    assert torch.equal(run(True), run(False))


@pytest.mark.parametrize("setting", ["fused", "foreach"])
def test_a_state_of_another_implementation_is_taken_with_our_own(setting: str) -> None:
    """As that of a fused SGD, which earlier versions had."""
    weight = torch.nn.Parameter(torch.ones(3))
    former, own = (SPECS["sgd"].make([weight]) for _ in range(2))
    weight.grad = torch.ones(3)
    former.step()
    tensors, rest = pack({"o": former})
    rest["o"]["groups"][0][setting] = True
    unpack({"o": own}, *through_json(tensors, rest), {"o": SPECS["sgd"]})
    assert own.param_groups[0][setting] is None
    assert torch.equal(own.state[weight]["momentum_buffer"], torch.ones(3))


State = dict[str, Any]
CHANGES: dict[str, Callable[[State, State], object]] = {  # of the state's tensors, and of the rest
    "a shape": lambda t, o: t.update({"optimizer.o.0.exp_avg": torch.ones(7)}),
    "a type": lambda t, o: t.update({"optimizer.o.0.exp_avg": torch.ones(2, 3, dtype=torch.int64)}),
    "an entry missing": lambda t, o: t.pop("optimizer.o.1.exp_avg"),
    "an entry too many": lambda t, o: t.update({"optimizer.o.1.more": torch.ones(4)}),
    "a parameter too many": lambda t, o: t.update({"optimizer.o.2.step": torch.ones(())}),
    "no number": lambda t, o: t.update({"optimizer.o.x.step": torch.ones(())}),
    "a group missing": lambda t, o: o["o"].update(groups=[]),
    "a setting": lambda t, o: o["o"]["groups"][0].update(amsgrad=True),
    "a setting that is no number": lambda t, o: o["o"]["groups"][0].update(lr="fast"),
    "a setting that is not finite": lambda t, o: o["o"]["groups"][0].update(lr=float("nan")),
    "other parameters": lambda t, o: o["o"]["groups"][0].update(params=[1, 0]),
    "another optimizer": lambda t, o: o.update(p=o.pop("o")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_state_that_is_not_the_optimizers_is_refused_before_anything_is_loaded(change: str) -> None:
    weights = [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(4))]
    optimizer: torch.optim.Optimizer = SPECS["adam"].make(weights)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    tensors, rest = pack({"o": optimizer})
    CHANGES[change](tensors, rest)
    fresh: torch.optim.Optimizer = SPECS["adam"].make(weights)
    with pytest.raises(InputError, match="optimizer"):
        unpack({"o": fresh}, *through_json(tensors, rest), {"o": SPECS["adam"]})
    assert not fresh.state
