"""Prepares datasets and weights on disk; its programs are run once, before training."""

from alp_jax.command import shipped

shipped.make_importable()  # Where the user has a package `configs`, too.
