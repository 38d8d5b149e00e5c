"""Shared parts of all dataset commands: flags, worker processes and dataset directories."""
