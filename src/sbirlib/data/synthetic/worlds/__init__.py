"""Worlds of the synthetic dataset: small variants, in each of which the idea of one method must matter, and whose answer is known."""

from sbirlib.data.synthetic.worlds.imbalance import Imbalance
from sbirlib.data.synthetic.worlds.parts import Parts
from sbirlib.data.synthetic.worlds.style import Style
from sbirlib.data.synthetic.worlds.traits import Traits
from sbirlib.data.synthetic.worlds.world import World

__all__ = ["WORLDS", "Imbalance", "Parts", "Style", "Traits", "World"]

WORLDS: dict[str, type[World]] = {"traits": Traits, "parts": Parts, "style": Style, "imbalance": Imbalance}
