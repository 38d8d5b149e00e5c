"""Terms of MinEnt, MinEnt + ER, the class ratio prior and FDA against PyTorch, over 20 steps.

All of them are in one objective, of two heads, so that a step is compiled once for each precision;
every loss is compared by itself, step by step.
"""

import jax
import numpy as np
import pytest

from alp_jax.objective.settings import term, view
from alp_jax.run import assembly
from alp_jax.workdir.settings import build_settings
from tests import tiny, torch_run
from tests.objective import methods
from tests.torch_run import SEGMENTER

NUM_STEPS = 20
FIELDS = {
    "model.backbone.batch_norm_train_affine": True,
    "optimizer.sgd_preset": "clean",
    "optimizer.gradient_clip_norm": 0.0,
    "optimizer.horizon_steps": 40,
    # With ten times this rate losses grow, and with them what rounding changes.
    "optimizer.segmenter_learning_rate": 1e-4,
    "num_steps": NUM_STEPS,
}
LOSSES = ("cross_entropy", "cross_entropy_aux", "entropy", "entropy_aux", "penalty", "class_ratio")


def create_settings(dtype):
    config = methods.create_config("minent")
    config.update_from_flattened_dict(FIELDS)
    with config.unlocked():
        if dtype == np.float32:  # FDA's images are of single precision in any case.
            config.views.source = view("fourier", beta=0.1)
        shares = (0.55, *(0.03,) * 15)  # Far from uniform predictions.
        config.terms.entropy = term("entropy", weight=0.3)
        config.terms.entropy_aux = term("entropy", weight=0.3, head="aux", top_share=0.3)
        config.terms.penalty = term("entropy", weight=0.3, exponent=2.0, resolution="logits")
        config.terms.class_ratio = term("class_ratio_prior", weight=0.3, class_shares=shares)
    return build_settings(config)


def train(dtype):
    """Trains both sides; returns (our losses, theirs, our tensors, theirs, those at the start)."""
    settings = create_settings(dtype)
    setup = assembly.create_setup(settings)
    state = torch_run.draw_state(setup, dtype)
    reference = torch_run.Reference(settings, state, dtype)
    start = torch_run.player_tensors(state)[SEGMENTER]
    batch = tiny.make_batch(setup.segmenter.num_classes)
    step = assembly.compile_train_step(setup, state, batch, methods.RNG)
    ours, theirs = [], []
    for _ in range(NUM_STEPS):
        state, scalars = step(state, batch)
        losses = reference.step(batch, methods.RNG)
        ours.append([float(scalars[f"loss/{name}"]) for name in LOSSES])
        theirs.append([losses[name] for name in LOSSES])
    return ours, theirs, torch_run.player_tensors(state)[SEGMENTER], reference.tensors(), start


@pytest.mark.parametrize(
    ("dtype", "of_losses", "of_moves"), [(np.float64, 1e-9, 1e-8), (np.float32, 1e-5, 1e-3)]
)
def test_losses_and_moves_are_those_of_published_code(dtype, of_losses, of_moves):
    """Bounds are relative to a loss above 1, and to the largest move of a tensor."""
    with jax.enable_x64(dtype == np.float64):
        ours, theirs, tensors, expected, start = train(dtype)
    np.testing.assert_allclose(ours, theirs, rtol=of_losses, atol=of_losses)
    assert (np.abs(theirs[0]) > 0.01).all()  # Every term has a part.
    moved = 0
    for name, tensor in tensors.items():
        move = np.abs(expected[SEGMENTER][name] - start[name]).max()
        assert np.abs(tensor - expected[SEGMENTER][name]).max() <= of_moves * max(move, 1e-9), name
        moved += move > 1e-6
    assert moved > 10
