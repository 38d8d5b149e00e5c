"""From images to predictions, scores and pictures."""
