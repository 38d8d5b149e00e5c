"""Backbones: one file a kind, which ends with `BACKBONE = CLASS`."""
