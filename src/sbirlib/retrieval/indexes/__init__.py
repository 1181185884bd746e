"""Indexes of vectors: one interface, from a file to a cluster."""
