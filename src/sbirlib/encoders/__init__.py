"""Encoders that more than one method uses."""
