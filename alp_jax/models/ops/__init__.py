"""Convolutions in the form that is fast on each device; no layers and no parameters."""
