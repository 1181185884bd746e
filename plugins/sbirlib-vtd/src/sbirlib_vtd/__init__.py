"""Visual trait descriptors (Pang et al. 2019)."""
