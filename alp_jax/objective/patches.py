"""Samples random patches (g in the paper), and upsamples whole maps or only patches of them.

Synopsis:

  offsets = sample_offsets(rng, batch_size, map_size, patch_size, num_patches)    # [B, P, 2]
  patches = slice_patches(images, offsets, patch_size)                           # [B*P, h, w, C]
  logits = upsample(coarse_logits, map_size)                                     # [B, H, W, C]
  logits = upsample_patches(coarse_logits, offsets, map_size, patch_size)        # [B*P, h, w, C]

The last line equals slicing the upsampled map, but interpolates only the pixels of the patches.
Corners are aligned.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

Size = tuple[int, int]  # (height, width), pixels


def sample_offsets(
    rng: jax.Array, batch_size: int, map_size: Size, patch_size: Size, num_patches: int
) -> jax.Array:
    """Samples top-left corners of patches, uniform over all positions inside the map.

    Args:
      rng: typed key.
      batch_size: number of maps; positions are independent per map and per patch.
      map_size: (H, W) of the map, pixels.
      patch_size: (h, w) of the patch, pixels.
      num_patches: patches per map.
    Returns:
      [batch_size, num_patches, 2] int32, (row, column) of each corner.
    Raises:
      ValueError: if the patch is larger than the map (at trace time).
    """
    if patch_size[0] > map_size[0] or patch_size[1] > map_size[1]:
        raise ValueError(
            f"A patch of {patch_size[0]}x{patch_size[1]} does not fit in a map of "
            f"{map_size[0]}x{map_size[1]}."
        )
    highest = jnp.array([map_size[0] - patch_size[0], map_size[1] - patch_size[1]])
    return jax.random.randint(rng, (batch_size, num_patches, 2), 0, highest + 1, jnp.int32)


def slice_patches(maps: jax.Array, offsets: jax.Array, patch_size: Size) -> jax.Array:
    """Slices patches with `jax.lax.dynamic_slice`, so that other offsets do not recompile.

    Args:
      maps: [B, H, W, ...].
      offsets: [B, P, 2] int32 top-left corners.
      patch_size: (h, w), pixels.
    Returns:
      [B * P, h, w, ...], the P patches of the first map first.
    """

    def slice_one(one_map: jax.Array, offset: jax.Array) -> jax.Array:
        channels = one_map.shape[2:]
        starts = jnp.concatenate([offset, jnp.zeros(len(channels), offset.dtype)])
        return jax.lax.dynamic_slice(one_map, list(starts), (*patch_size, *channels))

    patches = jax.vmap(jax.vmap(slice_one, in_axes=(None, 0)))(maps, offsets)
    return patches.reshape(-1, *patches.shape[2:])


@functools.cache
def interpolation_matrix(size_in: int, size_out: int, last: float | None = None) -> np.ndarray:
    """Builds the matrix of bilinear interpolation with aligned corners along one axis.

    Output index i reads source coordinate i * (size_in - 1) / (size_out - 1). The first and last
    samples are kept exactly, as in the published networks.

    Args:
      size_in, size_out: numbers of samples.
      last: source coordinate of the last output; None: the last sample.
    Returns:
      [size_out, size_in] float64; every row sums to 1.
    """
    coordinates = np.linspace(0.0, size_in - 1 if last is None else last, size_out)
    lower = np.minimum(np.floor(coordinates).astype(int), max(size_in - 2, 0))
    fraction = coordinates - lower
    matrix = np.zeros((size_out, size_in))
    rows = np.arange(size_out)
    matrix[rows, lower] = 1.0 - fraction
    if size_in > 1:
        matrix[rows, lower + 1] += fraction
    matrix.setflags(write=False)
    return matrix


# By default a TPU rounds the factors of a product to bfloat16, too coarse for these weights.
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def upsample(maps: jax.Array, size: Size) -> jax.Array:
    """Upsamples bilinearly with aligned corners: [B, h, w, C] -> [B, *size, C]."""
    rows = jnp.asarray(interpolation_matrix(maps.shape[1], size[0]), maps.dtype)
    columns = jnp.asarray(interpolation_matrix(maps.shape[2], size[1]), maps.dtype)
    return interpolate(maps, rows, columns)


def interpolate(maps: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Multiplies both axes by interpolation matrices: [B, h, w, C] -> [B, H, W, C]."""
    return _einsum("Xx,bYxc->bYXc", columns, _einsum("Yy,byxc->bYxc", rows, maps))


def upsample_patches(
    maps: jax.Array, offsets: jax.Array, size: Size, patch_size: Size
) -> jax.Array:
    """Computes `slice_patches(upsample(maps, size), offsets, patch_size)` at the patches' cost.

    Slices and applies only those rows of the interpolation matrices that a patch needs.

    Args:
      maps: [B, h_in, w_in, C].
      offsets: [B, P, 2] int32 corners in the upsampled map.
      size: (H, W) of the upsampled map, pixels.
      patch_size: (h, w), pixels.
    Returns:
      [B * P, h, w, C].
    """
    row_matrix = jnp.asarray(interpolation_matrix(maps.shape[1], size[0]), maps.dtype)
    column_matrix = jnp.asarray(interpolation_matrix(maps.shape[2], size[1]), maps.dtype)

    def upsample_one(one_map: jax.Array, offset: jax.Array) -> jax.Array:
        rows = jax.lax.dynamic_slice_in_dim(row_matrix, offset[0], patch_size[0])
        columns = jax.lax.dynamic_slice_in_dim(column_matrix, offset[1], patch_size[1])
        return _einsum("Xx,Yxc->YXc", columns, _einsum("Yy,yxc->Yxc", rows, one_map))

    patches = jax.vmap(jax.vmap(upsample_one, in_axes=(None, 0)))(maps, offsets)
    return patches.reshape(-1, *patches.shape[2:])
