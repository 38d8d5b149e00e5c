"""What a run keeps on disk: configuration, checkpoints, logs and locks."""
