"""Declares settings, builds them from a configuration and compares configurations."""
