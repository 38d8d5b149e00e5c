"""Terms: one file a kind, which ends with `TERM = CLASS`."""
