"""Builds the parts of a run from its settings: networks, state, mesh and compiled train step.

Synopsis:

  setup = create_setup(settings)
  state = create_train_state(setup, rng)
  train_fn = compile_train_step(setup, state, batch, rng)
  state, metrics = train_fn(state, batch)
"""

import contextlib
import ctypes
import dataclasses
import functools
import logging
import pathlib
import time
from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np

from alp_jax import models
from alp_jax.data import statistics
from alp_jax.data.labels import LabelSet, load_label_set
from alp_jax.data.samples import Batch
from alp_jax.devices import mesh
from alp_jax.errors import UserError
from alp_jax.models.segmenter import BACKBONE
from alp_jax.objective import optim, state, step
from alp_jax.objective.objective import Setup
from alp_jax.objective.settings import create_objective
from alp_jax.run import own_parameters
from alp_jax.workdir import checkpoint, config, trained_on
from alp_jax.workdir.settings import RunSettings

logger = logging.getLogger(__name__)

Scalars = dict[str, jax.Array]
TrainFn = Callable[[state.TrainState, Any], tuple[state.TrainState, Scalars]]

# Compiler options by platform. By default XLA on the CPU schedules independent operations first and
# would allocate the target's buffers before the source's gradient is done. On a GPU it would try
# Triton for each matrix product, which takes two thirds of the time to compile and gains nothing.
COMPILER_OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"},
    "gpu": {"xla_gpu_enable_triton_gemm": False},
}


def create_setup(settings: RunSettings, label_set: LabelSet | None = None) -> Setup:
    """Creates the static parts of a run's step.

    Args:
      settings: of the run.
      label_set: the classes; None loads those of `config.data.label_set`.
    """
    label_set = label_set or load_label_set(settings.data.label_set)
    segmenter = models.create_segmenter(settings.model, label_set.num_classes)
    objective = create_objective(
        settings.views, settings.terms, heads=segmenter.heads, updates=settings.updates
    )
    updates = [optim.Update(phase.moves, phase.repeats) for phase in objective.phases]
    return Setup(
        segmenter,
        objective,
        optim.create_segmenter_optimizer(settings.optimizer, segmenter, updates),
        optim.create_own_optimizer(settings.optimizer),
        settings.teacher,
    )


def complete_terms(settings: RunSettings, label_set: LabelSet) -> RunSettings:
    """Fills the empty fields of terms that are derived from the labels of the source.

    Args:
      settings: of the run.
      label_set: the classes.
    Raises:
      UserError: if a term needs class frequencies and the source was prepared without them.
    """
    data = settings.data

    def count_pixels() -> np.ndarray:
        source = data.data_dir, data.source, data.source_split
        return statistics.read_class_pixels(*source, label_set).sum(axis=0)

    terms = {name: term.complete(count_pixels) for name, term in settings.terms.items()}
    return dataclasses.replace(settings, terms=terms)


def create_train_state(
    setup: Setup, rng: jax.Array, devices: jax.sharding.Mesh | None = None
) -> state.TrainState:
    """Creates the state at step 0 with one compiled program; a hundred small ones take longer.

    The state is replicated on the mesh `devices`; None places it on the first device.
    """
    create = functools.partial(state.create_train_state, setup=setup)
    return jax.jit(create, out_shardings=devices and mesh.replicate(devices))(rng)


def create_mesh(settings: RunSettings) -> jax.sharding.Mesh:
    """Creates the mesh of a run (`config.mesh`), which divides its batches and image heights."""
    data = settings.data
    heights = {data.source_size[0], data.target_size[0]}
    if settings.rounds.num_rounds:
        heights.add(settings.rounds.crop_size[0])
    devices = mesh.create_mesh(settings.mesh, batch_size=data.batch_size, heights=sorted(heights))
    logger.info("Devices: %s.", mesh.describe(devices))
    return devices


def compile_train_step(
    setup: Setup,
    train_state: state.TrainState,
    batch: Batch,
    rng: jax.Array,
    devices: jax.sharding.Mesh | None = None,
) -> TrainFn:
    """Compiles the train step once, ahead of time; the state is donated.

    Calling it with other shapes is then an error, not a second compilation. State and batch lie on
    the mesh `devices`; without a mesh, on the first device.
    """
    logger.info("Compiling the train step: seconds for a small network, minutes for a full one.")
    start = time.monotonic()
    everywhere = devices and mesh.replicate(devices)
    if devices is not None:
        rng = mesh.copy_everywhere(rng, devices)
    train_step = jax.jit(
        functools.partial(step.train_step, setup=setup), donate_argnums=0, out_shardings=everywhere
    )
    options = COMPILER_OPTIONS.get(jax.default_backend())
    compiled = train_step.lower(train_state, batch, rng).compile(options)
    _return_freed_memory()
    logger.info("Compiled the train step in %.1f s.", time.monotonic() - start)
    return lambda entry, data: compiled(entry, data, rng)


def _return_freed_memory() -> None:
    """Returns memory freed after compiling to the system, with glibc's malloc_trim.

    glibc would keep a gigabyte and more. Other C libraries return freed memory by themselves, or
    have no such call.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def init_from(settings: RunSettings, train_state: state.TrainState) -> state.TrainState:
    """Replaces the segmenter's parameters and statistics by the latest checkpoint of `init_from`.

    A head that the checkpoint lacks, as weights of a backbone do, keeps its initial values; with
    `init_heads` "new" every head does. What terms own keeps its initial values, too, unless
    `init_terms` is "same".

    Raises:
      UserError: if there is no checkpoint, or it belongs to another network.
    """
    workdir, entry = pathlib.Path(settings.init_from).expanduser(), train_state.segmenter
    if not (workdir / config.FILE_NAME).is_file():
        runs = [folder for folder in workdir.parents if (folder / config.FILE_NAME).is_file()]
        near = f", such as {runs[0]}, which it lies in" if runs else ""
        raise UserError(
            f"config.init_from is {str(workdir)!r}, where no run is: train that one first (for the "
            "built-in cities: --config=configs/toy_cities.py:warmup), convert pretrained weights "
            f"there (python -m data_prep.convert_weights --help), or give another{near}."
        )
    saved = config.load(workdir)
    trained_on.warn_of_start(workdir, settings.data.data_dir)
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        latest = checkpoints.resolve("latest")
        there = checkpoints.segmenter_parts(latest) | {BACKBONE}
        held = there if settings.init_heads == "same" else {BACKBONE}
        config.check_same_network(settings, saved, workdir, parts=held)
        wanted = {kind: _select(held, parts) for kind, parts in entry.model_state.items()}
        params, model_state = checkpoints.restore_segmenter(
            latest,
            _select(held, entry.params),
            {kind: parts for kind, parts in wanted.items() if parts},
        )
        own = own_parameters.take(settings, train_state.discriminator, checkpoints, latest)
    afresh = ", ".join(sorted(entry.params.keys() - held)) or "nothing"
    unused = ", ".join(sorted(there - (entry.params.keys() & held)))
    logger.info(
        "Starting from step %d of %s; initialised afresh: %s.%s",
        latest,
        workdir,
        afresh,
        f" Its {unused} {'are' if ',' in unused else 'is'} not used." if unused else "",
    )
    params = entry.params | params
    model_state = {
        kind: parts | model_state.get(kind, {}) for kind, parts in entry.model_state.items()
    }
    segmenter = dataclasses.replace(entry, params=params, model_state=model_state)
    return dataclasses.replace(train_state, segmenter=segmenter, discriminator=own)


def _select(parts: Collection[str], tree: dict[str, Any]) -> dict[str, Any]:
    """Selects the parts of a segmenter from its parameters or statistics."""
    return {part: leaves for part, leaves in tree.items() if part in parts}
