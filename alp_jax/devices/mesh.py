"""Shards batches over a mesh of `data` x `space` devices: images over `data`, rows over `space`.

Synopsis:

  mesh = create_mesh(config.mesh, batch_size=8, heights=(720, 512))
  batch = place_batch(rows_of_this_process, mesh, batch_size=8)
  step = jax.jit(train_step, out_shardings=replicate(mesh))   # XLA's partitioner does the rest

Parameters are replicated on all devices. Statistics and losses are computed over the whole batch,
so the mesh changes results only through the order of summation.
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alp_jax.errors import UserError
from alp_jax.settings.schema import setting

logger = logging.getLogger(__name__)

T = TypeVar("T")

DATA, SPACE = "data", "space"


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    """Sizes of the device mesh."""

    OPERATIONAL = True

    data: int = setting(
        0,
        "Number of devices that share the images of a batch; 0: as many as divide both the batch "
        "and the devices.",
        at_least=0,
    )
    space: int = setting(
        0,
        "Number of devices that share the rows of an image; 0: as many of the remaining devices as "
        "divide the heights.",
        at_least=0,
    )


def create_mesh(config: MeshSettings, *, batch_size: int, heights: Sequence[int]) -> Mesh:
    """Creates the mesh over the devices of all processes.

    Args:
      config: `config.mesh`; a size of 0 takes as many devices as fit.
      batch_size: images of each domain in a step, over all devices.
      heights: image heights, pixels.
    Raises:
      UserError: if the sizes do not divide the batch and the heights, ask for more devices than
        there are, or leave a process without a device.
    """
    num_devices = jax.device_count()
    data, space = _choose(config, num_devices, batch_size, heights)
    if data * space > num_devices:
        raise UserError(
            f"config.mesh asks for {data} x {space} devices and JAX has {num_devices}: give "
            "smaller sizes, or 0 for as many as fit."
        )
    if batch_size % data:
        raise UserError(
            f"config.mesh.data is {data} and a batch has {batch_size} images: expected a divisor "
            "of that, or 0 for as many devices as fit."
        )
    if any(height % space for height in heights):
        raise UserError(
            f"config.mesh.space is {space} and images have {' and '.join(map(str, heights))} rows: "
            "expected a divisor of these, or 0 for as many devices as fit."
        )
    used = jax.devices()[: data * space]
    if {device.process_index for device in used} != set(range(jax.process_count())):
        raise UserError(
            f"A mesh of {data} x {space} devices leaves some of {jax.process_count()} processes "
            f"without one: choose config.mesh.data and config.mesh.space for all {num_devices} "
            "devices, or start fewer processes."
        )
    return jax.make_mesh(
        (data, space), (DATA, SPACE), axis_types=(AxisType.Auto, AxisType.Auto), devices=used
    )


def _choose(
    config: MeshSettings, num_devices: int, batch_size: int, heights: Sequence[int]
) -> tuple[int, int]:
    """Returns the mesh sizes: given ones, else as many devices as fit, `data` before `space`."""
    data = config.data or math.gcd(num_devices // (config.space or 1), batch_size)
    space = config.space or math.gcd(num_devices // data, *heights) or 1
    return data, space


def describe(mesh: Mesh) -> str:
    """Describes the use of the devices, for the log."""
    data, space = mesh.devices.shape
    kind = mesh.devices.flat[0].device_kind
    unused = jax.device_count() - mesh.size
    parts = [f"{mesh.size} x {kind}"]
    if mesh.size > 1:
        parts.append(f"{data} share the images of a batch, {space} the rows of an image")
    if unused:
        parts.append(f"{unused} unused, as they divide neither")
    return "; ".join(parts)


def replicate(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that is replicated on all devices."""
    return NamedSharding(mesh, PartitionSpec())


def copy_everywhere(tree: Any, mesh: Mesh) -> Any:
    """Replicates arrays on all devices; every process must hold the same values."""
    everywhere = replicate(mesh)
    if jax.process_count() == 1:
        return jax.device_put(tree, everywhere)

    def copy(leaf: jax.Array) -> jax.Array:
        if leaf.sharding == everywhere:
            return leaf
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = copy(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        held = np.asarray(leaf)
        return jax.make_array_from_callback(held.shape, everywhere, lambda index: held[index])

    return jax.tree.map(copy, tree)


def spread(mesh: Mesh, rank: int) -> NamedSharding:
    """Returns the sharding of a [B, H, ...] array with `rank` axes: B over `data`, H over `space`.

    An array of rank 1, [B], is sharded over `data` only.
    """
    return NamedSharding(mesh, PartitionSpec(DATA, SPACE) if rank > 1 else PartitionSpec(DATA))


@functools.lru_cache
def local_images(mesh: Mesh, batch_size: int) -> tuple[int, ...]:
    """Returns the indices of the images that this process must load."""
    indices = spread(mesh, 1).addressable_devices_indices_map((batch_size,))
    places = [index[0] for index in indices.values() if index is not None]
    return tuple(sorted({i for place in places for i in range(batch_size)[place]}))


def place_batch(batch: T, mesh: Mesh, *, batch_size: int, spread_rows: bool = True) -> T:
    """Places this process's images of a batch on its devices, as part of global arrays.

    Args:
      batch: tree of arrays [b, H, ...] or [b] that hold the images `local_images`.
      mesh: mesh over all processes.
      batch_size: images of the batch over all processes.
      spread_rows: whether rows are sharded over `space`; False accepts any number of rows.
    Returns:
      the tree with global arrays of the whole batch, [B, H, ...] or [B].
    """
    local = local_images(mesh, batch_size)

    def place(held: Any) -> jax.Array:
        array = np.asarray(held)

        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            places = [local.index(i) for i in range(batch_size)[index[0]]]
            return array[places[0] : places[-1] + 1][(slice(None), *index[1:])]

        shape = (batch_size, *array.shape[1:])
        sharding = spread(mesh, array.ndim if spread_rows else 1)
        return jax.make_array_from_callback(shape, sharding, part)

    placed: T = jax.tree.map(place, batch)
    return placed
