"""Packed datasets: all images of a dataset in one file, shrunk, with their labels and splits."""

from sbirlib.data.packed.reading import is_packed, member, packed
from sbirlib.data.packed.writing import pack

__all__ = ["is_packed", "member", "pack", "packed"]
