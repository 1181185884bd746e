"""Profiles of training steps, and advice from them."""
