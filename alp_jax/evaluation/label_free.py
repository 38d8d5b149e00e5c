"""Computes label-free criteria of a segmenter on the target, for choosing checkpoints.

Synopsis:

  density = soft_neighbourhood_density(logits)                     # of each image
  information = information_maximisation(mean_probs, mean_entropy)  # of a whole split

Mean entropy, the third of the CRITERIA, is `alp_jax.objective.maps.entropy`. All are computed at
every evaluation; `python -m alp_jax.study` reports how well each ranks checkpoints.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Criterion(NamedTuple):
    """Describes a label-free criterion, and which of its values are good.

    Attributes:
      title: name and unit, for tables and figures.
      sign: 1 if higher is better, -1 if lower is.
    """

    title: str
    sign: int


# Name in an evaluation's summary -> the criterion.
CRITERIA = {
    "mean_entropy": Criterion("mean entropy (0 to 1)", -1),
    "soft_neighbourhood_density": Criterion("soft neighbourhood density (nats)", 1),
    "information_maximisation": Criterion("information maximisation (0 to 1)", 1),
}
SIGNS = {name: criterion.sign for name, criterion in CRITERIA.items()}
TEMPERATURE = 0.05  # As in Saito et al.
# (rows, columns) of the compared points. Deviation: Saito et al. compare the images of a whole set;
# here points of one image are compared, on a grid so that their similarities fit in memory.
GRID = (16, 32)


def soft_neighbourhood_density(logits: jax.Array) -> jax.Array:
    """Computes the soft neighbourhood density of the predictions in an image; more is better.

    For each point of a GRID, takes the cosine similarities between its predicted probabilities and
    those of all other points, divides them by TEMPERATURE, and computes the entropy of their
    softmax, in nats; then averages over the points. Saito et al., "Tune it the Right Way:
    Unsupervised Validation of Domain Adaptation via Soft Neighborhood Density", ICCV 2021.

    Args:
      logits: [B, H, W, C] float, unnormalised; a side shorter than GRID's is used in full.
    Returns:
      [B] nats, each in [0, log(number of points - 1)].
    """
    rows, columns = (
        jnp.linspace(0, size - 1, min(size, count)).round().astype(jnp.int32)
        for size, count in zip(logits.shape[1:3], GRID, strict=True)
    )
    points = jax.nn.softmax(logits[:, rows][:, :, columns])
    points = points.reshape(logits.shape[0], -1, logits.shape[-1])
    points /= jnp.linalg.norm(points, axis=-1, keepdims=True)
    similarities = jnp.einsum("bic,bjc->bij", points, points) / TEMPERATURE
    itself = jnp.eye(points.shape[1], dtype=bool)
    log_probs = jax.nn.log_softmax(jnp.where(itself, -jnp.inf, similarities))
    entropies = -jnp.sum(jnp.where(itself, 0.0, jnp.exp(log_probs) * log_probs), axis=-1)
    return jnp.mean(entropies, axis=-1)


def information_maximisation(mean_probs: np.ndarray, mean_entropy: float) -> float:
    """Computes the mutual information of image and prediction; more is better.

    It is the entropy of the mean prediction minus the mean entropy of the predictions. It is high
    if each pixel's prediction is certain, and not all pixels get the same class. Bridle et al.,
    "Unsupervised Classifiers, Mutual Information and 'Phantom Targets'", NIPS 1991.

    Args:
      mean_probs: [C] mean prediction over all pixels of all images, sums to 1.
      mean_entropy: mean entropy over the same pixels, divided by log C.
    Returns:
      the mutual information divided by log C, in [0, 1].
    """
    probs = np.asarray(mean_probs, np.float64)
    terms = probs * np.log(np.where(probs > 0, probs, 1.0))
    return float(-terms.sum() / np.log(len(probs)) - mean_entropy)
