"""What the commands share: flags, log lines, progress and signals."""
