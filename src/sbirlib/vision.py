"""timm and torchvision, imported without the compiler."""

from sbirlib import compiler

__all__ = ["functional", "timm"]

compiler.postpone()

import timm  # noqa: E402
from torchvision.transforms.v2 import functional  # noqa: E402
