"""Faults that are planted into a method, which must lose its gain by them: so a test of the gain can fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from torch import nn

from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Features
from sbirlib.pipeline import Pipeline


def planted(defect: str, pipeline: Pipeline) -> AbstractContextManager[Any]:
    """Block in which a pipeline has the fault of this name; empty: none."""
    if not defect:
        return nullcontext()
    if defect not in DEFECTS:
        raise InputError(f"there is no defect {defect!r}{nearest(defect, DEFECTS)}")
    context: AbstractContextManager[Any] = DEFECTS[defect](pipeline)
    return context


@contextmanager
def permuted_gates(pipeline: Pipeline) -> Iterator[None]:
    """VTD: each sketch has the descriptor of its neighbour in the batch, once the descriptor is trained; it stays so in evaluation."""

    def permuted(module: nn.Module, _: Any, features: Features) -> Features:
        learns = module.training and any(parameter.requires_grad for parameter in module.parameters())
        return features if learns else replace(features, embedding=features.embedding.roll(1, 0))

    pipeline.encoder.get_submodule("descriptor").register_forward_hook(permuted)
    yield


DEFECTS = {"permuted_gates": permuted_gates}
