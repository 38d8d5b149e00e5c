"""Configurations: `default.py` has the paper's values, and the others override them."""
