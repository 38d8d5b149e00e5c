"""Placements of patches on a prediction: one file a kind, which ends with `PLACEMENT = CLASS`."""
