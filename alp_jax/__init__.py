"""Local alignment for unsupervised domain adaptation of semantic segmentation, in JAX."""

__version__ = "0.1.0"
