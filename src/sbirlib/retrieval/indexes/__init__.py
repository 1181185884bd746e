"""Vectors that are served: one interface, from a file to a cluster."""
