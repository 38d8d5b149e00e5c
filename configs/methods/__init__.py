"""Methods: one file each, with `apply(config)` that adds views and terms to a configuration."""
