"""Reproduces the paper's tables and figures by one command: `python -m alp_jax.study --help`."""
