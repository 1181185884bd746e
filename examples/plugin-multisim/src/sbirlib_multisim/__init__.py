"""The multi-similarity loss (Wang et al. 2019)."""
