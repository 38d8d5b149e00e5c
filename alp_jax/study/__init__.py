"""The paper's tables and figures, re-made by one command: `python -m alp_jax.study --help`."""
