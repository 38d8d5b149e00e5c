"""Training: builds a run from its settings, loops and guards."""
