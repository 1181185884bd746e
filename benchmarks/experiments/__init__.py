"""Experiments: definitions in TOML, training and evaluation of their rows, the store of results, and the results page."""
