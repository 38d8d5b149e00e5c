"""Builds a run from its settings and trains it."""
