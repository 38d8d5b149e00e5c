"""Speed, measured as ratios: against PyTorch, or against what the machine attains."""
