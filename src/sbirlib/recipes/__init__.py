"""Recipes of the core, as TOML files."""
