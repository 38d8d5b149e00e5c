"""Converts published PyTorch weights to checkpoints of alp_jax, and back."""
