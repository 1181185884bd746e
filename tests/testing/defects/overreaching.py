# ruff: noqa: F401, I001 - its imports are its defects
"""A part that imports the trainer, what it does not declare, and what it does not use."""

import json

import faiss
from sbirlib.interfaces import Loss
from sbirlib.training.run import Run


class Overreaching(Loss):
    run = Run()
    index = faiss.IndexFlatIP
