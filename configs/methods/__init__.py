"""Methods: one file each, whose `apply(config)` adds views and terms to a configuration."""
