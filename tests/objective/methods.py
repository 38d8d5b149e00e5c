"""Compiles the step of every method once, on the tiny network, for all questions asked of it.

method = compile_method("alp_gi")
states, scalars = method.run
state, scalars = method.step(states[0], {**method.batch, "source": other})
"""

import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from alp_jax.data.samples import Batch
from alp_jax.objective import step
from alp_jax.objective.objective import Objective, Setup
from alp_jax.objective.state import TrainState
from alp_jax.run import assembly
from alp_jax.workdir.settings import RunSettings, build_settings
from configs import default
from tests import tiny, torch_run

RNG = jax.random.key(7)
NUM_STEPS = 3

Scalars = dict[str, float]


def create_config(method: str) -> ml_collections.ConfigDict:
    """Creates the paper's configuration of a method, but for sizes and rates.

    The gradient is clipped, and the optimizer the published one, which visits parameters often.
    """
    config = default.get_config(method)
    small = tiny.get_config(pathlib.Path("unused"), "source_only")
    own = config.model.copy_and_resolve_references()
    with config.unlocked():
        config.num_steps = NUM_STEPS
        config.data.label_set = small.data.label_set
        config.model = small.model
        config.model.backbone.batch_norm_mode = own.backbone.batch_norm_mode
        config.model.heads = own.heads
        tiny.set_sizes(config)
        config.optimizer.update(
            segmenter_learning_rate=1e-3,
            discriminator_learning_rate=1e-3,
            gradient_clip_norm=0.5,
            horizon_steps=10,
            warmup_steps=0,
        )
    return config


def create_settings(method: str) -> RunSettings:
    """Builds the settings of `create_config`."""
    return build_settings(create_config(method))


class Run(NamedTuple):
    """The states before and after each step, and the scalars of each."""

    states: tuple[TrainState, ...]
    scalars: tuple[Scalars, ...]


class CompiledMethod:
    """A method's step, start and batch.

    Attributes:
      settings: of a run with the method.
      setup: of the step.
      batch: for every step.
      num_traces: how often the step was traced.
    """

    def __init__(self, settings: RunSettings, setup: Setup):
        self.settings, self.setup = settings, setup
        self.batch = tiny.make_batch(setup.segmenter.num_classes, setup.objective.domains)
        self.num_traces = 0

    @functools.cached_property
    def start(self) -> TrainState:
        """The state at step 0."""
        return jax.device_get(torch_run.draw_state(self.setup, np.float32))

    def _train_step(
        self, state: TrainState, batch: Batch, rng: jax.Array, weights: dict[str, jax.Array]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """The train step with the weights of terms as an argument."""
        self.num_traces += 1
        terms = tuple(
            dataclasses.replace(term, weight=weights[term.name])
            for term in self.setup.objective.terms
        )
        objective = dataclasses.replace(self.setup.objective, terms=terms)
        setup = dataclasses.replace(self.setup, objective=objective)
        return step.train_step(state, batch, rng, setup=setup)

    def _arguments(self, state: TrainState, batch: Batch, weights: dict[str, float]) -> Any:
        held = {term.name: term.weight for term in self.setup.objective.terms} | weights
        return state, batch, RNG, {name: np.float32(weight) for name, weight in held.items()}

    @functools.cached_property
    def _lowered(self) -> jax.stages.Lowered:
        return self._lower(self.batch)

    @functools.cached_property
    def _compiled(self) -> jax.stages.Compiled:
        return self._lowered.compile()

    def _lower(self, batch: Batch) -> jax.stages.Lowered:
        return jax.jit(self._train_step).lower(*self._arguments(self.start, batch, {}))

    def step(
        self, state: TrainState, batch: Batch | None = None, weights: dict[str, float] | None = None
    ) -> tuple[TrainState, Scalars]:
        """Takes a step; weights are those of the method but for the given ones."""
        arguments = self._arguments(state, batch or self.batch, weights or {})
        state, scalars = jax.device_get(self._compiled(*arguments))
        return state, {name: float(value) for name, value in scalars.items()}

    def has_same_program(self, batch: Batch) -> bool:
        """Returns whether the program for batches like this one is that of the step."""
        return self._lower(batch).as_text() == self._lowered.as_text()

    @functools.cached_property
    def run(self) -> Run:
        """NUM_STEPS steps from the start."""
        states, scalars = [self.start], []
        for _ in range(NUM_STEPS):
            state, found = self.step(states[-1])
            states.append(state)
            scalars.append(found)
        return Run(tuple(states), tuple(scalars))


@functools.cache
def compile_method(method: str) -> CompiledMethod:
    """Compiles a method of configs/methods, when its first step is taken."""
    settings = create_settings(method)
    return CompiledMethod(settings, assembly.create_setup(settings))


_PARTS: list[CompiledMethod] = []


def compile_part(method: CompiledMethod, num_terms: int) -> CompiledMethod:
    """Compiles a method with its first terms only; methods may share what is left of them."""
    objective = method.setup.objective
    part = Objective(objective.views, objective.terms[:num_terms])
    for found in (*map(compile_method, default.list_methods()), *_PARTS):
        ours, theirs = ((m.settings.model, m.settings.optimizer) for m in (method, found))
        if found.setup.objective == part and ours == theirs:
            return found
    setup = dataclasses.replace(method.setup, objective=part)
    _PARTS.append(CompiledMethod(method.settings, setup))
    return _PARTS[-1]


def describe_state(method: str) -> dict[str, str]:
    """Lists the arrays of the state of a run with the method: path -> shape, such as 3x3x8x16.

    The gradient is not clipped, as in the paper's configurations.
    """
    settings = create_settings(method)
    optimizer = dataclasses.replace(settings.optimizer, gradient_clip_norm=0.0)
    setup = assembly.create_setup(dataclasses.replace(settings, optimizer=optimizer))
    create = functools.partial(assembly.create_train_state, setup)
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.eval_shape(create, RNG))
    return {name_path(path): "x".join(map(str, leaf.shape)) for path, leaf in leaves}


def name_path(path: tuple[Any, ...]) -> str:
    """Writes the path of a leaf: segmenter/params/backbone/conv1/kernel."""
    keys = [getattr(k, "key", getattr(k, "name", getattr(k, "idx", k))) for k in path]
    return "/".join(map(str, keys))
