"""Encoders that more than one method needs."""
