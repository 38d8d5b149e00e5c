"""Programs that are run once, before training: datasets and weights on disk."""
