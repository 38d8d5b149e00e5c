"""Runs the PyTorch reference on the settings, the start and the batches of a run of alp_jax.

  reference = Reference(settings, state, np.float64)
  losses = reference.step(batch, rng)     # {"cross_entropy": 2.77, "segmenter": 2.77, ...}

The reference has what alp_jax computes for the terms cross_entropy, alignment, entropy and
class_ratio_prior; other settings raise NotCoveredError.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from alp_jax.data.labels import load_label_set
from alp_jax.data.samples import Batch
from alp_jax.models import MAIN
from alp_jax.objective import patches, state
from alp_jax.objective.objective import Setup
from alp_jax.objective.pixel_weights.none import NoWeights
from alp_jax.objective.placements.grid import Grid
from alp_jax.objective.placements.random import RandomPatches
from alp_jax.objective.placements.whole import Whole
from alp_jax.objective.settings import create_objective
from alp_jax.objective.terms.alignment import Alignment
from alp_jax.objective.terms.class_ratio_prior import ClassRatioPrior
from alp_jax.objective.terms.cross_entropy import CrossEntropy
from alp_jax.objective.terms.entropy import Entropy
from alp_jax.objective.updates.joint import Joint
from alp_jax.objective.views.crops import Crops
from alp_jax.objective.views.fourier import Fourier
from alp_jax.objective.views.images import Images
from alp_jax.workdir.settings import RunSettings
from tests import torch_reference, torch_terms
from tests.torch_reference import AUX, TargetLoss

PyTree = Any
Tensors = dict[str, np.ndarray]  # By PyTorch's names, in PyTorch's layout.

SEGMENTER = "segmenter"
# What alp_jax/objective/types.py folds into the key of a run for the two domains.
ROLES = {"source": 0, "target": 1}


class NotCoveredError(Exception):
    """The reference does not have what the settings ask for."""


class Reference:
    """The networks, optimizers and steps of a run, in PyTorch.

    Attributes:
      gradients: of the last step, by player, before they are clipped.
      accuracies: of the discriminators in the last step.
    """

    def __init__(self, settings: RunSettings, start: state.TrainState, dtype: type):
        """Takes the start over.

        Raises:
          NotCoveredError: if the reference does not have a view, term or field.
        """
        self._settings, self._dtype, self._num_steps = settings, dtype, 0
        trainer_settings = create_torch_settings(settings)
        self._crops, self._num_crops = _find_crops(settings)
        self._grid = _find_grid(settings)
        self._segmenter = torch_reference.DeepLabV2(**torch_segmenter_arguments(settings))
        discriminators = {
            found.head: torch_reference.create_discriminator(
                load_label_set(settings.data.label_set).num_classes, found.widths
            )
            for found in _list_terms(settings)
            if isinstance(found, Alignment)
        }
        self._networks = {SEGMENTER: self._segmenter, **discriminators}
        for player, tensors in player_tensors(start).items():
            self._networks[player].to(torch.float64 if dtype == np.float64 else torch.float32)
            fill(self._networks[player], tensors)
        self._trainer = torch_reference.Trainer(self._segmenter, discriminators, trainer_settings)

    @property
    def gradients(self) -> dict[str, Tensors]:
        return self._trainer.gradients

    @property
    def accuracies(self) -> dict[str, float]:
        return self._trainer.accuracies

    def tensors(self) -> dict[str, Tensors]:
        """Parameters and statistics, by player."""
        return {
            player: {
                name: tensor.numpy().copy()
                for name, tensor in network.state_dict().items()
                if not name.endswith("num_batches_tracked")
            }
            for player, network in self._networks.items()
        }

    def forward(self, images: np.ndarray, *, train: bool) -> tuple[Tensors, Tensors]:
        """Computes the logits of every head, and the tensors after it; changes nothing."""
        before = self.tensors()[SEGMENTER]
        self._segmenter.train(train)
        with torch.no_grad():
            outputs = self._segmenter(self._as_input(images))
        after = self.tensors()[SEGMENTER]
        fill(self._segmenter, before)
        return {head: value.numpy() for head, value in outputs.items()}, after

    def step(self, batch: Batch, rng: jax.Array) -> dict[str, float]:
        """Trains for a step; returns the losses."""
        step, self._num_steps = self._num_steps, self._num_steps + 1
        images = {domain: self._as_input(self._restate_view(domain, batch)) for domain in batch}
        labels = torch.from_numpy(np.asarray(batch["source"].labels)).long()
        return self._trainer.train_step(step, images, labels, self._place(batch, rng, step))

    def _restate_view(self, domain: str, batch: Batch) -> np.ndarray:
        """Computes the images of a domain's view, before they are cropped."""
        view, images = self._settings.views[domain], batch[domain].images
        if not isinstance(view, Fourier):
            return images
        _require(images.shape == batch["target"].images.shape, "domains of two sizes")
        pairs = zip(images, batch["target"].images, strict=True)
        exchanged = [
            torch_terms.exchange_amplitudes(
                *(np.moveaxis(image.astype(np.float64), -1, 0) for image in pair), view.beta
            )
            for pair in pairs
        ]
        return np.moveaxis(np.stack(exchanged), 1, -1)

    def calibrate(self, images: np.ndarray) -> None:
        """Makes running statistics those of a batch, but for some noise.

        With others activations would grow by orders of magnitude over a hundred layers, in the
        modes that normalise with them.
        """
        rng = np.random.default_rng(1)
        norms = [m for m in self._segmenter.modules() if isinstance(m, torch_reference.BatchNorm)]
        mode, momentum = norms[0].mode, norms[0].momentum
        for norm in norms:
            norm.mode, norm.momentum = "batch", 1.0
        self._segmenter.train()
        with torch.no_grad():
            self._segmenter(self._as_input(images))
        for norm in norms:
            norm.mode, norm.momentum = mode, momentum
            noise = rng.standard_normal((2, norm.num_features))
            norm.running_mean += torch.from_numpy(0.1 * noise[0]) * norm.running_var.sqrt()
            norm.running_var *= torch.from_numpy(np.exp(0.1 * noise[1]))

    def _as_input(self, images: np.ndarray) -> torch.Tensor:
        """RGB [B, H, W, 3] as published code feeds it: in the weights' order, channels first."""
        model = self._settings.model
        ordered = images[..., ::-1] if model.input_order == "bgr" else images
        mean, std = (np.array(v, self._dtype) for v in (model.input_mean, model.input_std))
        scaled = (ordered.astype(self._dtype) - mean) / std
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(scaled, 3, 1)))

    def _place(self, batch: Batch, rng: jax.Array, step: int) -> dict[str, np.ndarray]:
        """The corners of our step's patches."""
        if self._crops is None:
            return {}
        if self._grid is not None:
            return {domain: _place_cells(self._grid, sample) for domain, sample in batch.items()}
        return {
            domain: np.asarray(
                patches.sample_offsets(
                    jax.random.fold_in(jax.random.fold_in(rng, ROLES[domain]), step),
                    *sample.images.shape[:1],
                    sample.images.shape[1:3],
                    self._crops,
                    self._num_crops,
                )
            )
            for domain, sample in batch.items()
        }


def torch_segmenter_arguments(settings: RunSettings) -> dict[str, Any]:
    """Returns the arguments of `torch_reference.DeepLabV2`."""
    model = settings.model
    return {
        "num_classes": load_label_set(settings.data.label_set).num_classes,
        "stem": model.backbone.stem,
        "stem_widths": model.backbone.stem_widths,
        "block": model.backbone.block,
        "depths": model.backbone.depths,
        "widths": model.backbone.widths,
        "strides": model.backbone.strides,
        "dilations": model.backbone.dilations,
        "classifier_dilations": model.heads["main"].dilations,
        "stride_in": model.backbone.stride_in,
        "batch_norm": model.backbone.batch_norm_mode,
        "train_affine": model.backbone.batch_norm_train_affine,
        "multi_level": "aux" in model.heads,
    }


def create_torch_settings(settings: RunSettings) -> torch_reference.Settings:
    """Translates the settings.

    Raises:
      NotCoveredError: if the reference does not have a view, term or field.
    """
    optimizer = settings.optimizer
    terms = _list_terms(settings)
    crossed = [found for found in terms if isinstance(found, CrossEntropy)]
    aligned = [found for found in terms if isinstance(found, Alignment)]
    minimised = [found for found in terms if isinstance(found, Entropy | ClassRatioPrior)]
    _require(len(crossed) + len(aligned) + len(minimised) == len(terms), "terms of other kinds")
    _require({found.view for found in minimised} <= {"target"}, "losses of other views")
    _require({found.view for found in crossed} == {"source"}, "labels of other views")
    _require(not any(found.damping_steps for found in terms), "weights that fall")
    _require(type(settings.updates) is Joint, "phases")
    _require(optimizer.discriminator_optimizer == "adam", "SGD for discriminators")
    _require(settings.model.head_names in ((MAIN,), (MAIN, AUX)), "other heads")
    for kind, found in (("cross_entropy", crossed), ("adversarial", aligned)):
        names = {MAIN: kind, AUX: f"{kind}_aux"}
        _require(all(term.name == names.get(term.head) for term in found), f"names of {kind}")
    method = _find_method(settings, aligned, minimised)
    game = {}
    if aligned:
        fields = ("aligned_map", "game", "decision", "halved")
        game = {field: getattr(aligned[0], field) for field in fields}
        alike = all(getattr(term, field) == game[field] for term in aligned for field in fields)
        _require(alike, "games that differ")
        _require(game["decision"] != "pixel", "decisions of pixels")
        _require(all(type(t.pixel_weights) is NoWeights for t in aligned), "weights of pixels")
        _require(all(t.discriminators == "shared" for t in aligned), "discriminators by place")
    return torch_reference.Settings(
        method=method,
        patch_size=_find_crops(settings)[0],
        cross_entropy_weights={found.head: found.weight for found in crossed},
        adversarial_weights={found.head: found.weight for found in aligned},
        sgd=optimizer.sgd_preset,
        adam=optimizer.adam_preset,
        target_losses=tuple(map(_restate_term, minimised)),
        segmenter_learning_rate=optimizer.segmenter_learning_rate,
        head_multiplier=optimizer.classifier_learning_rate_multiplier,
        momentum=optimizer.momentum,
        weight_decay=optimizer.weight_decay,
        gradient_clip_norm=optimizer.gradient_clip_norm,
        discriminator_learning_rate=optimizer.discriminator_learning_rate,
        betas=(optimizer.adam_b1, optimizer.adam_b2),
        eps=optimizer.adam_eps,
        horizon_steps=optimizer.horizon_steps,
        warmup_steps=optimizer.warmup_steps,
        power=optimizer.poly_power,
        **game,
    )


def _list_terms(settings: RunSettings) -> tuple[Any, ...]:
    heads = settings.model.head_names
    return create_objective(settings.views, settings.terms, heads=heads).terms


def _require(condition: bool, missing: str) -> None:
    if not condition:
        raise NotCoveredError(f"The PyTorch reference does not have {missing}.")


def _restate_term(found: Entropy | ClassRatioPrior) -> TargetLoss:
    if isinstance(found, Entropy):
        names, function = ("top_share", "exponent", "resolution"), torch_terms.entropy
    else:
        names, function = ("mu", "class_shares"), torch_terms.class_ratio_prior
    compute = functools.partial(function, **{name: getattr(found, name) for name in names})
    return TargetLoss(found.name, found.head, found.weight, compute)


def _find_method(
    settings: RunSettings, aligned: list[Alignment], minimised: list[Entropy | ClassRatioPrior]
) -> str:
    """Finds the method whose views and placements the settings have."""
    views = settings.views
    for name, view in views.items():
        is_own = isinstance(view, Images | Crops) and view.domain == name
        _require(is_own or (isinstance(view, Fourier) and name == "source"), "other views")
        _require(view.moves_statistics, "a view that moves no statistics")
    kinds = {type(view) for view in views.values()}
    if Crops in kinds:
        _require(kinds == {Crops} and bool(aligned), "crops of one domain, or without alignment")
        _require({type(term.patches) for term in aligned} == {Whole}, "patches of crops")
        return "ap_ci"
    if "target" not in views:
        return "source_only"
    if not aligned:
        return "agp_gi" if minimised else "target_bn"
    placements = {term.patches for term in aligned}
    _require(len(placements) == 1, "placements that differ")
    return "agp_gi" if isinstance(aligned[0].patches, Whole) else "alp_gi"


def _find_crops(settings: RunSettings) -> tuple[tuple[int, int] | None, int]:
    """Finds the size and the number of crops of images or of patches of maps."""
    for view in settings.views.values():
        if isinstance(view, Crops):
            return view.size, view.num_crops
    for found in settings.terms.values():
        if isinstance(found, Alignment) and isinstance(found.patches, RandomPatches):
            return found.patches.patch_size, found.patches.num_patches
    grid = _find_grid(settings)
    if grid is not None:
        sizes = {settings.data.source_size, settings.data.target_size}
        _require(len(sizes) == 1 and not grid.cells, "grids of two sizes, or some of their cells")
        ((height, width),) = sizes
        return (height // grid.rows, width // grid.columns), grid.rows * grid.columns
    return None, 1


def _find_grid(settings: RunSettings) -> Grid | None:
    for found in settings.terms.values():
        if isinstance(found, Alignment) and isinstance(found.patches, Grid):
            return found.patches
    return None


def _place_cells(grid: Grid, sample: Any) -> np.ndarray:
    """Places the corners of a grid's cells, for each image: [B, P, 2]."""
    batch_size, height, width = sample.images.shape[:3]
    corners = [
        (height * row // grid.rows, width * column // grid.columns)
        for row in range(grid.rows)
        for column in range(grid.columns)
    ]
    return np.array([corners] * batch_size)


def draw_state(setup: Setup, dtype: type, discriminator_scale: float = 1.0) -> state.TrainState:
    """Draws a state at step 0 with all parameters random; statistics are a mean of 0, variance 1.

    Drawn here, as compiling the initialisers takes longer than the comparison; by He's rule also
    the discriminators, times `discriminator_scale`: the wide ones of the paper need a small one, or
    a step of Adam moves every decision by several, and rounding errors with it.
    """
    rng = np.random.default_rng(0)
    # A unit that rounding puts above zero on one side and below on the other has another gradient:
    # in single precision biases keep most units far from zero.
    distance = 3.0 if dtype == np.float32 else 0.0

    def start(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        is_variance = getattr(path[-1], "key", "") == "var"
        return jnp.full(leaf.shape, int(is_variance), dtype if floating else leaf.dtype)

    def draw(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        *_, module, name = keys = [entry.key for entry in path]
        he = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        noise = rng.standard_normal(leaf.shape)
        if name == "kernel":
            values = noise * he * (0.2 if module.startswith("branch") else 1.0)
            if keys[0] in (MAIN, AUX):
                values *= discriminator_scale
        elif name == "scale":  # Small residuals keep a hundred layers from amplifying rounding.
            values = rng.uniform(0.5, 1.0, leaf.shape) * (0.3 if module == "bn3" else 1.0)
        elif keys[0] == "backbone":
            values = 0.1 * noise + (0.0 if module == "bn3" else distance)
        elif module.startswith("branch"):
            values = 0.1 * noise
        else:
            values = discriminator_scale**2 * (0.1 * noise + np.sign(noise) * distance)
        return jnp.asarray(values, dtype)

    create = functools.partial(state.create_train_state, setup=setup)
    shapes = jax.eval_shape(create, jax.random.key(0))
    entry = jax.tree_util.tree_map_with_path(start, shapes)
    players = {
        "segmenter": entry.segmenter,
        "discriminator": entry.discriminator,
        "teacher": entry.teacher,
    }
    drawn = entry.replace(
        **{
            name: player.replace(params=jax.tree_util.tree_map_with_path(draw, player.params))
            for name, player in players.items()
            if player is not None
        }
    )
    if drawn.teacher is None:
        return drawn
    thresholds = jnp.full_like(drawn.teacher.thresholds, 0.5)
    return drawn.replace(teacher=drawn.teacher.replace(thresholds=thresholds))


def take_statistics(entry: state.TrainState, tensors: Tensors) -> state.TrainState:
    """Replaces the running statistics of the segmenter by those of PyTorch's."""
    statistics = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(tensors[segmenter_name(path)].copy(), leaf.dtype),
        entry.segmenter.model_state["batch_stats"],
    )
    segmenter = dataclasses.replace(entry.segmenter, model_state={"batch_stats": statistics})
    return dataclasses.replace(entry, segmenter=segmenter)


_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_MODULES = {
    "downsample_conv": "downsample.0",
    "downsample_bn": "downsample.1",
    "classifier": "layer6.conv2d_list",
    "aux_classifier": "layer5.conv2d_list",
}


def player_tensors(entry: state.TrainState) -> dict[str, Tensors]:
    """Parameters and statistics of all players, as PyTorch names and lays them out."""
    statistics = segmenter_tensors(entry.segmenter.model_state["batch_stats"])
    players = {SEGMENTER: segmenter_tensors(entry.segmenter.params) | statistics}
    owned = {} if entry.discriminator is None else entry.discriminator.params
    return players | {head: discriminator_tensors(params) for head, params in owned.items()}


def segmenter_name(path: tuple[Any, ...]) -> str:
    """backbone/layer1_0/downsample_conv/kernel is layer1.0.downsample.0.weight, for example."""
    *modules, leaf = (entry.key for entry in path if entry.key != "backbone")
    names = [_MODULES.get(m, m.replace("_", ".").removeprefix("branch")) for m in modules]
    return ".".join([*names, _LEAVES[leaf]])


def segmenter_tensors(tree: PyTree) -> Tensors:
    """Parameters, statistics or gradients of a segmenter, as PyTorch names and lays them out."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {segmenter_name(path): _as_torch(leaf) for path, leaf in leaves}


def discriminator_tensors(tree: PyTree) -> Tensors:
    """The same of a discriminator: conv{i} is module 2 i, between two there is an activation."""
    return {
        f"{2 * int(layer.removeprefix('conv'))}.{_LEAVES[name]}": _as_torch(leaf)
        for layer, leaves in tree.items()
        for name, leaf in leaves.items()
    }


def _as_torch(leaf: jax.Array) -> np.ndarray:
    array = np.array(leaf)  # A copy: the train step donates its state.
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1)) if array.ndim == 4 else array


def fill(network: torch.nn.Module, tensors: Tensors) -> None:
    """Loads every parameter and statistic, and no other."""
    loaded = {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
    missing, unexpected = network.load_state_dict(loaded, strict=False)
    assert not unexpected, unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
