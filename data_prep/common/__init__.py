"""What all dataset commands share: running a command, worker processes, and dataset directories."""
