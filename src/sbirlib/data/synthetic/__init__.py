"""The synthetic set: endless categories in which only shape tells category and instance, rendered on demand."""

from sbirlib.data.synthetic.dataset import abstraction, synthetic
from sbirlib.data.synthetic.renderer import Synthetic

__all__ = ["Synthetic", "abstraction", "synthetic"]
