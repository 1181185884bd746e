"""Modality-aware triplet hard mining (Huang et al. 2022)."""
