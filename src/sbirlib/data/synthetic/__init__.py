"""Synthetic dataset, rendered on demand, in which only shape identifies category and instance."""

from sbirlib.data.synthetic.dataset import abstraction, synthetic
from sbirlib.data.synthetic.renderer import Synthetic

__all__ = ["Synthetic", "abstraction", "synthetic"]
