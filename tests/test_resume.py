"""Resuming gives the bits of never having stopped, under options that test_train.py has not.

That file does the same for running statistics in single precision, a battery for every method, and
kills at any moment are in tests/faults.
"""

import jax
import numpy as np

from alp_jax.run import assembly, train
from alp_jax.workdir import checkpoint
from alp_jax.workdir.settings import build_settings
from tests import tiny


def get_config(data_dir, *, num_steps: int, num_workers: int):
    """AdvEnt's two heads, batch statistics, bfloat16, minimax, clipping and flips."""
    config = tiny.get_config(data_dir, "advent")
    with config.unlocked():
        config.num_steps = config.evaluation.every_steps = num_steps
        config.model.backbone.batch_norm_mode = "batch"
        config.model.activation_dtype = "bfloat16"
        for name in ("adversarial", "adversarial_aux"):
            config.terms[name].activation_dtype = "bfloat16"
            config.terms[name].game = "minimax"
        config.optimizer.gradient_clip_norm = 1.0
        config.data.flip_probability = 0.5
        config.data.num_workers = num_workers
    return config


def read(config, workdir):
    setup = assembly.create_setup(build_settings(config))
    like = jax.eval_shape(lambda: assembly.create_train_state(setup, jax.random.key(0)))
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.restore(4, like=like)


def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(data_dir, tmp_path):
    """Read by a process, and then by threads, as the one that is not stopped."""
    for num_steps, num_workers in ((2, 1), (4, 0)):
        config = get_config(data_dir, num_steps=num_steps, num_workers=num_workers)
        train.train_and_evaluate(config, tmp_path / "stopped")
    config = get_config(data_dir, num_steps=4, num_workers=0)
    train.train_and_evaluate(config, tmp_path / "whole")
    whole, stopped = (read(config, tmp_path / name) for name in ("whole", "stopped"))
    jax.tree.map(np.testing.assert_array_equal, whole, stopped)
