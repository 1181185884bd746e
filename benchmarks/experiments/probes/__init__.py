"""Measurements in place of training: the worth of an idea on features that are computed once.

A probe is a module with `measure(data, *, part, seed, **settings)`: values of the queries of a split by metric, each [Q], and their category [Q].
"""
