"""Shapes of tensors, checked against the annotations of the contract in every test."""

from jaxtyping import install_import_hook

with install_import_hook(["sbirlib.features", "sbirlib.interfaces"], "beartype.beartype"):
    import sbirlib.interfaces  # noqa: F401
