"""The figures of the papers, drawn from stored results or from trained models."""
