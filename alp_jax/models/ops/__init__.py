"""Computes convolutions in the form that is fast on each device; no layers, no parameters."""
