"""Views: one file a kind, which ends with `VIEW = CLASS`."""
