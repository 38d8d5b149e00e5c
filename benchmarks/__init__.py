"""Measures speed as ratios: to PyTorch, or to the rates that the machine attains."""
