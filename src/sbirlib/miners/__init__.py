"""Miners that more than one method needs."""
