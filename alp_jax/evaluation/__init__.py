"""Computes predictions, scores and pictures from images."""
