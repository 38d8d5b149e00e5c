"""Settings: each is declared once, where it is read."""
