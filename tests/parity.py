"""Compares alp_jax with published code restated in PyTorch, from the same weights and images.

  python -m tests.parity --steps=20 --height=96 --width=160 --batch_norm=running --aux

Trains the paper's network (DeepLabv2-ResNet101) on both sides and prints each step's losses, then
the largest differences of logits, statistics, gradients and end parameters; exits with status 1 if
one is above its bound. Images and weights are made up: what is compared is the computation. With
--x64 both sides compute in double precision, which tells rounding from wrong maths.
"""

import argparse
import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from alp_jax.data.labels import load_label_set
from alp_jax.data.samples import Batch, Sample
from alp_jax.models.settings import head
from alp_jax.objective import optim
from alp_jax.objective.settings import placement, term
from alp_jax.run import assembly
from alp_jax.workdir.settings import RunSettings, build_settings
from configs import default
from tests import torch_run
from tests.torch_reference import AUX
from tests.torch_run import SEGMENTER, Tensors

PyTree = Any

# Largest relative differences that pass, each of a whole tensor (`relative_error`) or a scalar.
BOUNDS = {
    "logits": 1e-4,
    "statistics": 1e-4,
    "gradients": 1e-3,
    "losses": 1e-3,
    "parameters": 1e-3,
}
RNG = jax.random.key(7)  # Of the steps.


def create_config(
    method: str, fields: dict[str, Any], *, aux_weights: tuple[float, float] | None = None
) -> ml_collections.ConfigDict:
    """Creates the paper's configuration of a method, with other values of some fields.

    Args:
      method: of configs/methods.
      fields: "views.FIELD", "terms.FIELD" or "model.FIELD" (wherever such a field is inside that
        block), or the full name of a field.
      aux_weights: of the cross-entropy and the alignment of an auxiliary head, which is added.
    """
    config = default.get_config(method)
    with config.unlocked():
        if aux_weights is not None:
            _add_aux_head(config, *aux_weights)
        for name, value in fields.items():
            block, _, field = name.rpartition(".")
            if block in ("views", "terms", "model", "model.heads"):
                found = config.model.heads if block == "model.heads" else config[block]
                default.set_everywhere(found, **{field: value})
            else:
                config.update_from_flattened_dict({name: value})
    return config


def _add_aux_head(
    config: ml_collections.ConfigDict, cross_entropy_weight: float, adversarial_weight: float
) -> None:
    config.model.heads.aux = head("aspp", stage=-2)
    config.terms.cross_entropy_aux = term("cross_entropy", head=AUX, weight=cross_entropy_weight)
    if "adversarial" in config.terms:
        config.terms.adversarial_aux = term("alignment", head=AUX, weight=adversarial_weight)
        kind = config.terms.adversarial.patches.kind
        config.terms.adversarial_aux.patches = placement(kind)


def make_batch(settings: RunSettings, seed: int) -> Batch:
    """Makes noisy blocks of random colours and classes; some without a label."""
    rng = np.random.default_rng(seed)
    data = settings.data

    def blocks(size: tuple[int, int], channels: int, highest: int) -> np.ndarray:
        coarse = rng.integers(0, highest, (data.batch_size, *(-(-s // 8) for s in size), channels))
        return coarse.repeat(8, 1).repeat(8, 2)[:, : size[0], : size[1]]

    def images(size: tuple[int, int]) -> np.ndarray:
        colours = blocks(size, 3, 200)
        return (colours + rng.integers(0, 56, colours.shape)).astype(np.uint8)

    num_classes = load_label_set(data.label_set).num_classes
    labels = blocks(data.source_size, 1, num_classes + 1)[..., 0]
    labels = np.where(labels == num_classes, 255, labels).astype(np.uint8)
    batch = {"source": Sample(images(data.source_size), labels)}
    if "target" in settings.views:
        batch["target"] = Sample(images(data.target_size))
    return batch


def relative_error(ours: Any, theirs: Any) -> float:
    """Computes max |ours - theirs| / max |theirs| over a tensor; 0 if both are 0."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    error = np.max(np.abs(ours - theirs))
    return float(error / np.max(np.abs(theirs))) if error > 0 else 0.0


class Error(NamedTuple):
    """A relative error and the name of the tensor or scalar that has it."""

    value: float
    where: str


def largest_error(ours: dict[str, Any], theirs: dict[str, Any]) -> Error:
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    return max(Error(relative_error(ours[name], theirs[name]), name) for name in theirs)


class Both(NamedTuple):
    """What both sides computed, by name."""

    ours: dict[str, Any]
    theirs: dict[str, Any]

    def error(self) -> Error:
        return largest_error(self.ours, self.theirs)


class Pair:
    """Both implementations of one run, with the same start.

    Attributes:
      settings: of the run.
      setup: of our step; the optimizers note the gradient.
      state: of ours, after the steps so far.
    """

    def __init__(
        self,
        settings: RunSettings,
        dtype: type = np.float32,
        discriminator_scale: float = 1.0,
    ):
        self.settings = settings
        setup = assembly.create_setup(settings)
        self.setup = dataclasses.replace(
            setup,
            segmenter_optimizer=_observed(setup.segmenter_optimizer),
            own_optimizer=_observed(setup.own_optimizer),
        )
        self._step = None
        start = torch_run.draw_state(self.setup, dtype, discriminator_scale)
        self._reference = torch_run.Reference(settings, start, dtype)
        self._reference.calibrate(make_batch(settings, seed=0)["source"].images)
        calibrated = self._reference.tensors()[SEGMENTER]
        self.state = torch_run.take_statistics(start, calibrated)
        self._start = self.tensors().ours

    def tensors(self) -> Both:
        """Parameters and statistics of all players."""
        ours = torch_run.player_tensors(self.state)
        return Both(_flatten(ours), _flatten(self._reference.tensors()))

    def displacements(self) -> Both:
        """How far every tensor is from its start; those that must not move are left out."""

        def moved(tensors: Tensors) -> Tensors:
            return {name: tensor - self._start[name] for name, tensor in tensors.items()}

        return Both(*(moved(tensors) for tensors in self.tensors()))

    def forward(self, images: np.ndarray, *, train: bool) -> dict[str, Both]:
        """Predicts: "logits" of every head, and "statistics" after it; changes neither side."""
        entry = self.state.segmenter
        apply = jax.jit(functools.partial(self.setup.segmenter.apply, train=train))
        outputs, model_state = apply(entry.params, entry.model_state, images)
        our_logits = {head: np.moveaxis(np.asarray(v), 3, 1) for head, v in outputs.logits.items()}
        our_statistics = torch_run.segmenter_tensors(model_state["batch_stats"])
        their_logits, after = self._reference.forward(images, train=train)
        their_statistics = {name: after[name] for name in our_statistics}
        return {
            "logits": Both(our_logits, their_logits),
            "statistics": Both(our_statistics, their_statistics),
        }

    def step(self, batch: Batch) -> dict[str, Both]:
        """Trains for a step, with all of alp_jax's own: "losses" and "gradients" of all players."""
        if self._step is None:
            self._step = assembly.compile_train_step(self.setup, self.state, batch, RNG)
        self.state, scalars = self._step(self.state, batch)
        our_losses = {
            name.removeprefix("loss/"): float(value)
            for name, value in scalars.items()
            if name.startswith("loss/")
        }
        our_gradients = {SEGMENTER: torch_run.segmenter_tensors(self.state.segmenter.opt_state[0])}
        if self.state.discriminator is not None:
            for head, gradient in self.state.discriminator.opt_state[0].items():
                our_gradients[head] = torch_run.discriminator_tensors(gradient)
        losses = self._reference.step(batch, RNG)
        gradients = self._reference.gradients
        for name in our_gradients[SEGMENTER].keys() - gradients[SEGMENTER].keys():
            # Frozen: PyTorch keeps no gradient, ours is zero.
            assert not np.any(our_gradients[SEGMENTER].pop(name)), name
        return {
            "losses": Both(our_losses, losses),
            "gradients": Both(_flatten(our_gradients), _flatten(gradients)),
        }


def _observed(optimizer: optim.Optimizer) -> optim.Optimizer:
    """The same optimizer; its state begins with the last gradient that it was given."""
    inner = optimizer.transform

    def init(params: PyTree) -> PyTree:
        return jax.tree.map(jnp.zeros_like, params), inner.init(params)

    def update(grads: PyTree, opt_state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        updates, inner_state = inner.update(grads, opt_state[1], params)
        return updates, (grads, inner_state)

    return optim.Optimizer(optax.GradientTransformation(init, update), optimizer.learning_rate)


def _flatten(players: dict[str, Tensors]) -> Tensors:
    return {f"{player}/{name}": t for player, ts in players.items() for name, t in ts.items()}


def x64(enabled: bool = True) -> contextlib.AbstractContextManager:
    """Double precision of all that JAX does inside."""
    return jax.enable_x64(True) if enabled else contextlib.nullcontext()


def compare(pair: Pair, num_steps: int) -> Iterator[tuple[str, Error]]:
    """Trains a pair, prints the losses, and gives (kind, error) of all that is compared."""
    images = make_batch(pair.settings, seed=1)["source"].images
    for training in (False, True):
        for kind, both in pair.forward(images, train=training).items():
            yield kind, both.error()
    print(f"{'step':>4}  {'loss':24} {'alp_jax':>12} {'PyTorch':>12} {'difference':>11}")
    for step in range(num_steps):
        result = pair.step(make_batch(pair.settings, seed=1 + step))
        for name, theirs in result["losses"].theirs.items():
            ours = result["losses"].ours[name]
            error = relative_error(ours, theirs)
            print(f"{step:4}  {name:24} {ours:12.8f} {theirs:12.8f} {error:11.1e}", flush=True)
        yield "losses", result["losses"].error()
        if step == 0:  # Later ones are of other parameters.
            yield "gradients", result["gradients"].error()
    yield "parameters", pair.tensors().error()


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.parity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--method", default="alp_gi", choices=default.list_methods())
    add("--steps", type=int, default=20)
    add("--height", type=int, default=96, help="of source images; target images have 16 less")
    add("--width", type=int, default=160)
    add("--batch_norm", default="running", choices=["running", "batch", "frozen"])
    add("--aux", action="store_true", help="the multi-level network")
    add("--preset", default="reference", choices=["reference", "clean"])
    # At the paper's 2.5e-4 the loss of single precision's start, whose biases are large, grows
    # thirtyfold in five steps, and rounding errors with it; that for --x64 stands it.
    add("--learning_rate", type=float, default=2.5e-6, help="of the segmenter's backbone")
    add("--x64", action="store_true", help="double precision")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    flags = _parse(arguments)
    started = time.monotonic()
    config = create_config(
        flags.method,
        {
            "data.source_size": (flags.height, flags.width),
            "data.target_size": (flags.height - 16, flags.width - 16),
            "model.backbone.batch_norm_mode": flags.batch_norm,
            "views.size": (64, 64),
            "terms.patch_size": (64, 64),
            "optimizer.sgd_preset": flags.preset,
            "optimizer.segmenter_learning_rate": flags.learning_rate,
            "optimizer.horizon_steps": 2 * flags.steps,
            "num_steps": flags.steps,
        },
        aux_weights=(0.1, 0.0002) if flags.aux else None,
    )
    errors: dict[str, Error] = {}
    with x64(flags.x64):
        pair = Pair(
            build_settings(config), np.float64 if flags.x64 else np.float32, discriminator_scale=0.3
        )
        for kind, error in compare(pair, flags.steps):
            errors[kind] = max(errors.get(kind, error), error)
        moved = pair.displacements().error()
    print(f"\nLargest relative differences ({time.monotonic() - started:.0f} s):")
    for kind, error in errors.items():
        print(f"{kind:12} {error.value:9.1e}  bound {BOUNDS[kind]:.0e}  {error.where}")
    print(f"{'displacement':12} {moved.value:9.1e}  no bound     {moved.where}")
    passed = all(error.value <= BOUNDS[kind] for kind, error in errors.items())
    print("passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
