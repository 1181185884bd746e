"""Stand-in of the compiler: it waits until it is needed, and then is torch's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sbirlib import build

SEARCH = """
import sys

import numpy as np
from PIL import Image

from sbirlib import load, open_index

photos = [Image.fromarray(np.full((32, 32, 3), value, dtype=np.uint8)) for value in (0, 99)]
load(sys.argv[1]).index(photos).save("index")
assert len(open_index("index").search(photos[0], k=1)) == 1


def stands_in():
    return type(sys.modules["torch._dynamo"]).__module__ == "sbirlib.compiler"


assert stands_in(), "a search imports the compiler"
"""
STEP = """
import torch

from sbirlib.training.optimizers import adam, sgd

for optimizer in (adam, sgd):
    weight = torch.nn.Parameter(torch.ones(2))
    step = optimizer([weight], lr=0.1)
    weight.grad = torch.ones(2)
    step.step()
    step.load_state_dict(step.state_dict())
    step.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})
    assert (weight < 1).all()
assert stands_in(), "an optimizer imports the compiler"
"""
COMPILE = """
from timm.models.naflexvit import NaFlexRopeIterator
from torchvision.ops.roi_align import is_compile_supported


class Rope:
    depth, _depth_idx = 0, 0


def ends():
    try:
        NaFlexRopeIterator.__next__(Rope())
    except StopIteration:
        return True


assert ends(), "the function that timm excludes from compilation does not run"
assert is_compile_supported("cpu")
assert not stands_in(), "the compiler is not torch's own"
assert torch.compile(lambda x: 2 * x, backend="eager")(torch.ones(1)).item() == 2
assert ends(), "the function that timm excludes from compilation does not run beside the compiler"
step.step()
"""
IMPORTS = """
import sys

from sbirlib.compiler import postpone

postpone()
import torch._dynamo.config as config

assert config is sys.modules["torch._dynamo.config"] is sys.modules["torch._dynamo"].config
"""


def test_the_compiler_is_imported_where_it_is_needed_alone(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    build("mathm-ce", **{"encoder.backbone": "test_resnet", "encoder.pretrained": False, "transform.size": 32}).export(model)
    subprocess.run([sys.executable, "-c", SEARCH + STEP + COMPILE, str(model)], check=True, cwd=tmp_path)


def test_a_submodule_of_the_compiler_is_imported_through_the_stand_in() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
