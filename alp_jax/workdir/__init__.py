"""Files of a run: configuration, checkpoints, logs, scores and the lock."""
