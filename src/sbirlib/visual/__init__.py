"""Pictures and figures: retrieval grids, columns, training batches, training curves, t-SNE maps."""
