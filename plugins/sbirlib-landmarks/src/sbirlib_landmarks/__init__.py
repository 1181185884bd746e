"""The landmark-aware network (Zhang et al. 2019)."""
