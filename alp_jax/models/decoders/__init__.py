"""Defines decoders: one file for each kind, which ends with `DECODER = CLASS`."""
