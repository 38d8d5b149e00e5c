"""Additions to a method, METHOD+ADDITION: one file each, whose `apply(config)` adds terms."""
