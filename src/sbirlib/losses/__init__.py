"""Losses that more than one method needs."""
