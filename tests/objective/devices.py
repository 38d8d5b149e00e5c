"""Compares three steps of every method on two devices with those on one.

  XLA_FLAGS=--xla_force_host_platform_device_count=2 python -m tests.objective.devices

Each device has one of the two images of a batch. Prints, for each method, the largest relative
difference of its losses, and of how far each tensor of the segmenter and of the discriminators
moved; exits with status 1 if one is above its bound. What differs is the order of sums.
"""

import functools
import sys
from typing import Any

import jax
import numpy as np

from alp_jax.devices import mesh
from alp_jax.objective import step
from alp_jax.objective.state import TrainState
from configs import default
from tests.objective import methods
from tests.parity import relative_error

# Relative, of losses and of the displacements of tensors.
BOUNDS = (1e-4, 1e-2)


def run(method: methods.CompiledMethod, data: int) -> tuple[list[dict[str, Any]], TrainState]:
    """Trains on a mesh of `data` devices; returns (scalars of each step, last state)."""
    settings = mesh.MeshSettings(data=data, space=1)
    devices = mesh.create_mesh(settings, batch_size=2, heights=(32,))
    everywhere = mesh.replicate(devices)
    train_step = jax.jit(
        functools.partial(step.train_step, setup=method.setup), out_shardings=everywhere
    )
    state = jax.device_put(method.start, everywhere)
    rng = jax.device_put(methods.RNG, everywhere)
    batch = mesh.place_batch(method.batch, devices, batch_size=2)
    scalars = []
    for _ in range(methods.NUM_STEPS):
        state, found = train_step(state, batch, rng)
        scalars.append(jax.device_get(found))
    return scalars, jax.device_get(state)


def compare(method: methods.CompiledMethod) -> tuple[float, float]:
    """Returns the largest relative differences of losses and of displacements."""
    (expected, one), (found, two) = (run(method, data) for data in (1, 2))
    losses = max(
        relative_error(ours[name], theirs[name])
        for ours, theirs in zip(found, expected, strict=True)
        for name in theirs
        if name.startswith("loss/")
    )
    start, one, two = (
        jax.tree.leaves(
            (state.segmenter.params, state.discriminator and state.discriminator.params)
        )
        for state in (method.start, one, two)
    )
    moved = max(
        relative_error(ours - at, theirs - at)
        for at, theirs, ours in zip(start, one, two, strict=True)
        if np.any(theirs != at)
    )
    return losses, moved


def main() -> int:
    """Compares every method; returns the exit status."""
    worst = (0.0, 0.0)
    print(f"{'method':20} {'losses':>10} {'displacements':>14}")
    for name in default.list_methods():
        errors = compare(methods.compile_method(name))
        print(f"{name:20} {errors[0]:10.1e} {errors[1]:14.1e}", flush=True)
        worst = (max(worst[0], errors[0]), max(worst[1], errors[1]))
        jax.clear_caches()
    return int(any(error > bound for error, bound in zip(worst, BOUNDS, strict=True)))


if __name__ == "__main__":
    sys.exit(main())
