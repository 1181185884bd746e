"""Cross-domain generative learning (Pang et al. 2017)."""
