"""Miners that more than one method uses."""
