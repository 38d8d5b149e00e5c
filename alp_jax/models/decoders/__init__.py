"""Decoders: one file a kind, which ends with `DECODER = CLASS`."""
