"""Cached features: what a phase freezes is computed once for each image and draw of the augmentation, and kept on disk."""
