"""The train and eval steps: pure, unjitted, no I/O.

Synopsis:

  step = jax.jit(functools.partial(train_step, **statics), donate_argnums=0)
  state, metrics = step(state, batch, jax.random.key(seed))
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from alp_jax.models import AUX, MAIN, DomainDiscriminator, Segmenter
from alp_jax.objective import losses, maps, patches
from alp_jax.objective.choices import Objective
from alp_jax.objective.optim import Optimizer
from alp_jax.objective.state import DiscriminatorState, SegmenterState, TrainState

PyTree = Any
Batch = dict[str, jax.Array]
Scalars = dict[str, jax.Array]
# The maps that the discriminator compares, of each head: (source, target).
AlignedMaps = dict[str, tuple[jax.Array, jax.Array]]

# What the names of a head's scalars end in.
_SUFFIX = {MAIN: "", AUX: "_aux"}


def train_step(
    state: TrainState,
    batch: Batch,
    rng: jax.Array,
    *,
    segmenter: Segmenter,
    discriminator: DomainDiscriminator,
    segmenter_optimizer: Optimizer,
    discriminator_optimizer: Optimizer,
    objective: Objective,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Updates both players once.

    Implements Eqs. (1) to (4) of Cicek et al., ACCV 2020, in AdvEnt's order: source forward, target
    forward, then the gradients of both players at the parameters of `state`, on the same patches;
    no gradient of one player's loss reaches the other's parameters. An auxiliary classifier adds
    the same losses of its own prediction, with its own discriminator, on the same patches.

    Args:
      state: donated where the step is jitted.
      batch: source_images [B, H, W, 3] (RGB, 0..255), source_labels [B, H, W] (train ids or
        IGNORE_LABEL) and, when the objective uses the target, target_images [B, H', W', 3].
      rng: the run's key; keys of a step are fold_in(fold_in(rng, domain), step).
      segmenter, discriminator, segmenter_optimizer, discriminator_optimizer: the two players.
      objective: what is aligned, and how.
    Returns:
      (new state, metrics): metrics are scalars; losses in nats, accuracies in [0, 1].
    """

    def domain_rng(domain: int) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(rng, domain), state.step)

    if objective.aligns != (state.discriminator is not None):
        raise ValueError("The state must hold a discriminator exactly when something is aligned.")
    batch = _crop_images(batch, domain_rng, objective)

    loss, grads, model_state, aligned, scalars = _segmenter_gradient(
        state, batch, domain_rng, segmenter, discriminator, objective
    )
    updates, opt_state = segmenter_optimizer.transform.update(
        grads, state.segmenter.opt_state, state.segmenter.params
    )
    new_segmenter = SegmenterState(
        optax.apply_updates(state.segmenter.params, updates), model_state, opt_state
    )
    scalars |= {
        "loss/segmenter": loss,
        "gradient_norm/segmenter": optax.tree.norm(grads),
        "parameter_norm/segmenter": optax.tree.norm(new_segmenter.params),
        "statistics_norm/segmenter": optax.tree.norm(model_state),
        "learning_rate/segmenter": segmenter_optimizer.learning_rate(state.step),
    }
    new_discriminator = state.discriminator
    if state.discriminator is not None:
        new_discriminator, discriminator_scalars = _update_discriminator(
            state.discriminator, aligned, discriminator, discriminator_optimizer, objective
        )
        scalars["learning_rate/discriminator"] = discriminator_optimizer.learning_rate(state.step)
        scalars |= discriminator_scalars
    return TrainState(state.step + 1, new_segmenter, new_discriminator), scalars


def _crop_images(batch: Batch, domain_rng: Any, objective: Objective) -> Batch:
    """Crops the inputs themselves when that is the objective (AP-CI); labels with their images."""
    if objective.patch != "image_crop":
        return batch
    size, count = objective.patch_size, objective.num_patches

    def crop(domain: int, *arrays: jax.Array) -> list[jax.Array]:
        batch_size, *map_size = arrays[0].shape[:3]
        offsets = patches.sample_offsets(
            domain_rng(domain), batch_size, (map_size[0], map_size[1]), size, count
        )
        return [patches.slice_patches(array, offsets, size) for array in arrays]

    images, labels = crop(losses.SOURCE, batch["source_images"], batch["source_labels"])
    cropped = {"source_images": images, "source_labels": labels}
    if objective.use_target:
        (cropped["target_images"],) = crop(losses.TARGET, batch["target_images"])
    return cropped


def _segmenter_gradient(
    state: TrainState,
    batch: Batch,
    domain_rng: Any,
    segmenter: Segmenter,
    discriminator: DomainDiscriminator,
    objective: Objective,
) -> tuple[jax.Array, PyTree, PyTree, AlignedMaps, Scalars]:
    """Computes L_ce plus the segmenter's side of the game, of every head, and the gradient.

    The loss is a sum over domains, and so is the gradient: the target's images go through the
    network when the source's gradient is there, so that activations of one domain are kept at a
    time.

    Returns:
      (loss, gradient, model_state, maps by head, scalars).
    """
    play = functools.partial(
        _domain_loss,
        state=state,
        domain_rng=domain_rng,
        segmenter=segmenter,
        discriminator=discriminator,
        objective=objective,
    )
    grad_fn = jax.value_and_grad(play, has_aux=True)
    params, model_state = state.segmenter.params, state.segmenter.model_state
    (loss, (new_model_state, source_maps, scalars)), grads = grad_fn(
        params, model_state, batch["source_images"], batch["source_labels"]
    )
    if "source" in objective.batch_norm_update_domains:
        model_state = new_model_state
    if not objective.use_target:
        return loss, grads, model_state, {}, scalars
    # Of all gradients that of the first layer comes last.
    _, target_images = jax.lax.optimization_barrier(
        (grads["backbone"]["conv1"], batch["target_images"])
    )
    (target_loss, (new_model_state, target_maps, target_scalars)), target_grads = grad_fn(
        params, model_state, target_images, None
    )
    if "target" in objective.batch_norm_update_domains:
        model_state = new_model_state
    for name, value in target_scalars.items():
        scalars[name] = scalars.get(name, 0.0) + value
    grads = jax.tree.map(jnp.add, grads, target_grads)
    aligned = {head: (source_maps[head], target_maps[head]) for head in source_maps}
    return loss + target_loss, grads, model_state, aligned, scalars


def _domain_loss(
    params: PyTree,
    model_state: PyTree,
    images: jax.Array,
    labels: jax.Array | None,
    *,
    state: TrainState,
    domain_rng: Any,
    segmenter: Segmenter,
    discriminator: DomainDiscriminator,
    objective: Objective,
) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array], Scalars]]:
    """Computes what one domain adds to the segmenter's loss; the source is the one with labels.

    Returns:
      (loss, (model_state, aligned maps by head, scalars)).
    """
    size = images.shape[1], images.shape[2]
    domain = losses.TARGET if labels is None else losses.SOURCE
    loss = jnp.zeros(())
    scalars: Scalars = {}
    aligned: dict[str, jax.Array] = {}
    logits_by_head, model_state = segmenter.apply(params, model_state, images, train=True)
    for head, logits in logits_by_head.items():
        if labels is not None:
            total, count = losses.cross_entropy(patches.upsample(logits, size), labels)
            cross_entropy = total / jnp.maximum(count, 1)
            scalars[f"loss/cross_entropy{_SUFFIX[head]}"] = cross_entropy
            loss += (1.0 if head == MAIN else objective.aux_cross_entropy_weight) * cross_entropy
        if state.discriminator is None:
            continue
        aligned[head] = _aligned_maps(logits, size, domain_rng(domain), objective)
        if domain == losses.SOURCE and objective.game == "non_saturating":
            continue
        domain_logits = _decide(
            discriminator, state.discriminator.params[head], aligned[head], objective
        )
        # What the segmenter minimises of the game.
        if objective.game == "non_saturating":
            adversarial = losses.domain_cross_entropy(domain_logits, losses.SOURCE)
        else:
            adversarial = -losses.domain_cross_entropy(domain_logits, domain)
        scalars[f"loss/adversarial{_SUFFIX[head]}"] = adversarial
        weight = objective.adversarial_weight if head == MAIN else objective.aux_adversarial_weight
        loss += weight * adversarial
    return loss, (model_state, aligned, scalars)


def _update_discriminator(
    entry: DiscriminatorState,
    aligned: AlignedMaps,
    discriminator: DomainDiscriminator,
    optimizer: Optimizer,
    objective: Objective,
) -> tuple[DiscriminatorState, Scalars]:
    """Updates each head's discriminator on the maps, constants here, that the segmenter made.

    The heads' losses share no parameter, so their sum has the gradient of each.
    """

    def discriminator_loss(params: PyTree) -> tuple[jax.Array, Scalars]:
        loss = jnp.zeros(())
        scalars: Scalars = {}
        for head, (source_maps, target_maps) in aligned.items():
            source_logits = _decide(discriminator, params[head], source_maps, objective)
            target_logits = _decide(discriminator, params[head], target_maps, objective)
            source_loss = losses.domain_cross_entropy(source_logits, losses.SOURCE)
            target_loss = losses.domain_cross_entropy(target_logits, losses.TARGET)
            weight = 0.5 if objective.game == "non_saturating" else 1.0
            head_loss = weight * (source_loss + target_loss)
            loss += head_loss
            head_scalars = {
                "loss/discriminator": head_loss,
                "loss/discriminator_source": source_loss,
                "loss/discriminator_target": target_loss,
                "discriminator_accuracy/source": losses.domain_accuracy(
                    source_logits, losses.SOURCE
                ),
                "discriminator_accuracy/target": losses.domain_accuracy(
                    target_logits, losses.TARGET
                ),
            }
            scalars |= {name + _SUFFIX[head]: value for name, value in head_scalars.items()}
        return loss, scalars

    grads, scalars = jax.grad(discriminator_loss, has_aux=True)(entry.params)
    updates, opt_state = optimizer.transform.update(grads, entry.opt_state, entry.params)
    params = optax.apply_updates(entry.params, updates)
    scalars["gradient_norm/discriminator"] = optax.tree.norm(grads)
    scalars["parameter_norm/discriminator"] = optax.tree.norm(params)
    return DiscriminatorState(params, opt_state), scalars


def _aligned_maps(
    logits: jax.Array, size: patches.Size, rng: jax.Array, objective: Objective
) -> jax.Array:
    """Computes g(h(f(x))): upsampled to the input's size, whole or of random patches."""
    if objective.patch == "random":
        offsets = patches.sample_offsets(
            rng, logits.shape[0], size, objective.patch_size, objective.num_patches
        )
        logits = patches.upsample_patches(logits, offsets, size, objective.patch_size)
    else:
        logits = patches.upsample(logits, size)
    return maps.compute_map(logits, objective.aligned_map)


def _decide(
    discriminator: DomainDiscriminator, params: PyTree, domain_maps: jax.Array, objective: Objective
) -> jax.Array:
    """Computes domain logits: one for each cell, or their mean for each patch."""
    domain_logits = discriminator.apply(params, domain_maps)
    if objective.decision == "patch" and domain_logits.size > 0:
        domain_logits = jnp.mean(domain_logits, axis=(1, 2))
    return domain_logits
