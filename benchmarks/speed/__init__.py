"""Time and memory of sbirlib beside matrix products, bare PyTorch and other libraries."""
