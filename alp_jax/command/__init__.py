"""Shared parts of all commands: flags, log lines, progress and signals."""
