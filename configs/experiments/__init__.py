"""Experiments of many methods: one file each, whose EXPERIMENT is a plan of alp_jax.study."""
