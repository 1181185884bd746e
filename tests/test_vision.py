"""Imports of timm and torchvision: the compiler waits until it is needed, and then is torch's own."""

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
assert "torch._dynamo" not in sys.modules, "a search imports the compiler"
"""
COMPILE = """
import torch
from timm.models.naflexvit import NaFlexRopeIterator
from torchvision.ops.roi_align import is_compile_supported


class Rope:
    depth, _depth_idx = 0, 0


try:
    NaFlexRopeIterator.__next__(Rope())
except StopIteration:
    pass
else:
    raise AssertionError("the function that timm excludes from compilation does not run")
assert is_compile_supported("cpu")
assert type(sys.modules["torch._dynamo"]).__name__ == "module", "a stand-in is left behind"
assert torch.compile(lambda x: 2 * x, backend="eager")(torch.ones(1)).item() == 2
"""


def test_the_compiler_is_imported_where_it_is_needed_alone(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    build("mathm-ce", **{"encoder.backbone": "test_resnet", "encoder.pretrained": False, "transform.size": 32}).export(model)
    subprocess.run([sys.executable, "-c", SEARCH + COMPILE, str(model)], check=True, cwd=tmp_path)
