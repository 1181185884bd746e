# ruff: noqa: F401, I001 - its imports are its defects
"""Loss with forbidden imports: the trainer, an undeclared package, and an unused module."""

import json

import faiss
from sbirlib.interfaces import Loss
from sbirlib.training.run import Run


class Overreaching(Loss):
    run = Run()
    index = faiss.IndexFlatIP
