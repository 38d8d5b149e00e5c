"""CLAN and MCD give the numbers of their published loops, restated in PyTorch."""

import jax
import numpy as np
import pytest

from alp_jax.run import assembly
from alp_jax.workdir.settings import build_settings
from tests import tiny, torch_run, torch_two_classifiers
from tests.objective import methods
from tests.torch_run import SEGMENTER

NUM_STEPS = 20
USUAL = {
    "model.backbone.batch_norm_mode": "batch",
    "model.backbone.batch_norm_train_affine": True,
    "optimizer.sgd_preset": "clean",
    "optimizer.adam_preset": "clean",
    "optimizer.gradient_clip_norm": 0.0,
    "optimizer.horizon_steps": 40,
    "num_steps": NUM_STEPS,
}
# Name -> (restated loop, fields); each part of a loop weighs enough to be seen.
RUNS = {
    "clan": (
        torch_two_classifiers.Clan,
        {
            "optimizer.warmup_steps": 4,
            "terms.adversarial.damping_steps": 40,
            "terms.adversarial.pixel_weights.after_step": 5,
            "terms.adversarial.weight": 0.3,
            "terms.weight_cosine.damping_steps": 40,
            "terms.weight_cosine.weight": 0.2,
        },
    ),
    "mcd": (torch_two_classifiers.Mcd, {}),
}


def train(method: str):
    """Trains both sides; returns (our losses, theirs, our tensors, theirs, those at the start)."""
    loop, fields = RUNS[method]
    config = methods.create_config(method)
    config.update_from_flattened_dict(USUAL | fields)
    settings = build_settings(config)
    setup = assembly.create_setup(settings)
    state = torch_run.draw_state(setup, np.float64)
    reference = loop(settings, state, np.float64)
    start = torch_two_classifiers.player_tensors(state)
    batch = tiny.make_batch(setup.segmenter.num_classes)
    step = assembly.compile_train_step(setup, state, batch, methods.RNG)
    ours, theirs = [], []
    for _ in range(NUM_STEPS):
        state, scalars = step(state, batch)
        theirs.append(reference.step(batch))
        ours.append({name: float(scalars[name]) for name in theirs[-1]})
    return ours, theirs, torch_two_classifiers.player_tensors(state), reference, start


@pytest.mark.parametrize("method", RUNS)
def test_twenty_steps_are_those_of_the_published_loop(method):
    with jax.enable_x64(True):
        ours, theirs, tensors, reference, start = train(method)
    for step, (found, expected) in enumerate(zip(ours, theirs, strict=True)):
        assert found == pytest.approx(expected, rel=1e-9), step
    expected = reference.tensors()
    moved = 0
    for name, tensor in tensors[SEGMENTER].items():
        change = expected[name] - start[SEGMENTER][name]
        error = np.abs(tensor - expected[name]).max()
        assert error <= 1e-8 * max(np.abs(change).max(), 1e-9), name
        moved += np.abs(change).max() > 1e-6
    assert moved > 10
