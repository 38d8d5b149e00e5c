"""Resuming gives the bits of never having stopped, under options that test_train.py has not.

That file does the same for running statistics in single precision, and kills at any moment are in
tests/faults.
"""

import jax
import numpy as np
import pytest

from alp_jax.run import assembly, train
from alp_jax.workdir import checkpoint
from tests import tiny

OPTIONS = {
    "batch statistics in bfloat16, read by one process and then by threads": (
        {
            "model.batch_norm_mode": "batch",
            "model.activation_dtype": "bfloat16",
            "discriminator.activation_dtype": "bfloat16",
            "data.flip_probability": 0.5,
        },
        (1, 0),
    ),
    "frozen statistics with an auxiliary classifier, read by threads and then by two processes": (
        {
            "model.batch_norm_mode": "frozen",
            "model.aux_classifier": True,
            "objective.game": "minimax",
            "optimizer.gradient_clip_norm": 1.0,
        },
        (0, 2),
    ),
}


def read(run_config, workdir):
    statics = assembly.create_statics(run_config)
    like = jax.eval_shape(lambda: assembly.create_train_state(statics, jax.random.key(0)))
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.restore(4, like=like)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(name, data_dir, tmp_path):
    fields, workers = OPTIONS[name]

    def run(workdir, num_steps, num_workers):
        run_config = tiny.get_config(data_dir)
        run_config.update_from_flattened_dict(
            {**fields, "num_steps": num_steps, "data.num_workers": num_workers}
        )
        run_config.evaluation.every_steps = 4
        train.train_and_evaluate(run_config, workdir)
        return run_config

    for steps, num_workers in ((2, workers[0]), (4, workers[1])):
        resumed_config = run(tmp_path / "stopped", steps, num_workers)
    whole_config = run(tmp_path / "whole", 4, 0)
    jax.tree.map(
        np.testing.assert_array_equal,
        read(whole_config, tmp_path / "whole"),
        read(resumed_config, tmp_path / "stopped"),
    )
