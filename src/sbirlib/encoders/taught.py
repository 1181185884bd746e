"""Encoder beside a frozen teacher, whose vectors losses read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder, Features, Wrapper


class Taught(Wrapper):
    """The features of `encoder`, with the vectors of a frozen `teacher` for the same images as `rows["teacher"]` [N, T], of unit length.

    The teacher is no part of the module tree: it never trains, no rule reaches it, and no model file holds it; a training makes it anew from the
    recipe. Search does not run it. It reads images, so a phase with it has no cache. A row of another view than the image itself has the
    teacher's vector of its image.

    Args:
        encoder: encoder that trains
        teacher: encoder that does not, such as a backbone with dim = 0

    Raises InputError for a teacher with parameters of the encoder, which would be frozen with it.

    >>> Taught(encoder=encoder, teacher=deepcopy(encoder)).provides
    frozenset({'teacher'})
    """

    def __init__(self, *, encoder: Encoder, teacher: Encoder) -> None:
        super().__init__(encoder)
        own = {id(parameter) for parameter in encoder.parameters()}
        if any(id(parameter) in own for parameter in teacher.parameters()):
            raise InputError("the teacher has parameters of the encoder, which would be frozen with it: give it a copy (copy.deepcopy)")
        self.provides = encoder.provides | {"teacher"}
        self._teacher = (teacher.eval().requires_grad_(False),)  # a tuple, which torch does not register
        self._loaded = False

    @property
    def teacher(self) -> Encoder:
        """The teacher."""
        return self._teacher[0]

    def forward(self, batch: Batch) -> Features:
        self._load_teacher()
        features = super().forward(batch)
        with torch.no_grad():
            vectors: Tensor = self.teacher(batch).vector
        return replace(features, rows={**features.rows, "teacher": F.normalize(at_least_float32(vectors), dim=1)[features.source]})

    def _load_teacher(self) -> None:
        """Load the teacher's weights at the first call that needs them, which is none in search."""
        if not self._loaded:
            for module in self.teacher.modules():
                if isinstance(module, Encoder):
                    module.load_weights()
            self._loaded = True

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move the teacher wherever this encoder moves."""
        self.teacher._apply(fn)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
