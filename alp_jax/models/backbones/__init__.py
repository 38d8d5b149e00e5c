"""Defines backbones: one file for each kind, which ends with `BACKBONE = CLASS`."""
