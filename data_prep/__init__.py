"""Prepares datasets and weights on disk; its programs are run once, before training."""
