"""Exports a trained segmenter as a file that runs without this package."""
