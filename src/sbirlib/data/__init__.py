"""Datasets, splits, transforms and samplers."""
