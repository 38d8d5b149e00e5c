"""Placements of patches on a prediction: one file per kind, ending with `PLACEMENT = CLASS`."""
