"""Resizes maps bilinearly or bicubically, as `torch.nn.functional.interpolate` does.

Every function has `align_corners=False`: pixel i of n lies at (i + 0.5) / n of the side.

Synopsis:

  rows, columns = (make_bilinear(old, new) for old, new in ((h, 2 * h), (w, 2 * w)))
  maps = resize(maps, rows, columns)      # [B, h, w, C] -> [B, 2 h, 2 w, C]
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

_EXACT = jax.lax.Precision.HIGHEST


def resize(maps: jax.Array, rows: np.ndarray, columns: np.ndarray) -> jax.Array:
    """Multiplies both axes by matrices: [B, h, w, C], [H, h] and [W, w] -> [B, H, W, C]."""
    high = jnp.asarray(rows, maps.dtype)
    wide = jnp.asarray(columns, maps.dtype)
    maps = jnp.einsum("Yy,byxc->bYxc", high, maps, precision=_EXACT)
    return jnp.einsum("Xx,bYxc->bYXc", wide, maps, precision=_EXACT)


def resize_bilinear(maps: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Resizes [B, h, w, C] to [B, *size, C]; maps of that size come back as they are."""
    if maps.shape[1:3] == size:
        return maps
    return resize(maps, *map(make_bilinear, maps.shape[1:3], size))


def make_bilinear(old: int, new: int) -> np.ndarray:
    """Creates the matrix [new, old] of a bilinear resize."""
    places = np.maximum((np.arange(new) + 0.5) * (old / new) - 0.5, 0)
    return _gather(places, old, (0, 1), lambda distance: 1 - distance)


def make_bicubic(old: int, new: int, scale: float | None = None) -> np.ndarray:
    """Creates the matrix [new, old] of a bicubic resize with Keys' a = -0.75.

    Args:
      old, new: numbers of pixels.
      scale: factor between the two grids, as `scale_factor`; None: new / old.
    """
    places = (np.arange(new) + 0.5) / (new / old if scale is None else scale) - 0.5
    return _gather(places, old, (-1, 0, 1, 2), lambda distance: _cubic(distance, -0.75))


def make_antialiased_bicubic(old: int, new: int) -> np.ndarray:
    """Creates the matrix [new, old] of a bicubic resize with `antialias=True`.

    That is Pillow's: Keys' a = -0.5, as wide as the larger pixels, without what lies outside.
    """
    width = max(old / new, 1.0)
    places = (np.arange(new) + 0.5) * (old / new) - 0.5
    weights = _cubic(np.abs(np.arange(old) - places[:, None]) / width, -0.5)
    return weights / weights.sum(axis=1, keepdims=True)


def _gather(
    places: np.ndarray,
    old: int,
    neighbours: tuple[int, ...],
    weigh: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Adds up weights of the neighbours of each place; those outside are the pixel at the edge."""
    matrix = np.zeros((len(places), old))
    below = np.floor(places).astype(int)
    for neighbour in neighbours:
        columns = np.clip(below + neighbour, 0, old - 1)
        np.add.at(
            matrix, (np.arange(len(places)), columns), weigh(np.abs(places - below - neighbour))
        )
    return matrix


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Computes Keys' cubic kernel at distances in pixels."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
