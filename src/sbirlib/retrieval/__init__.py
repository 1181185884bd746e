"""Exact metrics, evaluators and indexes."""
