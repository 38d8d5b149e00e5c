"""Terms: one file per kind, ending with `TERM = CLASS`."""
