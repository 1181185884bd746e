"""Indexes of vectors: one interface, from a file to a cluster."""

import torch  # noqa: F401 - before FAISS: in the other order FAISS's threads wait 5 ms for those of torch, which wait in a loop for more
