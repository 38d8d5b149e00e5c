"""Configurations: `default.py` holds every field, the others override it."""
