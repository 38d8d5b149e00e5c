"""Views: one file per kind, ending with `VIEW = CLASS`."""
