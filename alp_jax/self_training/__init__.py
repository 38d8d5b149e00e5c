"""Self-training in rounds (CBST, CRST): thresholds, pseudo-labels, and the examples of a round."""
