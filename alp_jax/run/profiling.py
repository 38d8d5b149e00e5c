"""Records a few train steps for TensorBoard's profiler and Perfetto.

Synopsis:

  train_fn = record(train_fn, workdir, num_steps=5, steps_left=500)
"""

import logging
import pathlib
from collections.abc import Callable
from typing import TypeVar

import jax

from alp_jax.errors import UserError

logger = logging.getLogger(__name__)

State = TypeVar("State")
Batch = TypeVar("Batch")
Scalars = TypeVar("Scalars")
TrainFn = Callable[[State, Batch], tuple[State, Scalars]]

FOLDER = "plugins/profile"  # Below the workdir; TensorBoard looks there.
WARM_UP_STEPS = 10  # Not recorded: caches and the prefetch buffers fill first.


def record(
    train_fn: TrainFn[State, Batch, Scalars],
    workdir: pathlib.Path,
    *,
    num_steps: int,
    steps_left: int,
) -> TrainFn[State, Batch, Scalars]:
    """Wraps a train step so that it records `num_steps` calls once, after WARM_UP_STEPS.

    The recording starts and ends after waiting for the device, so that it holds whole steps.

    Args:
      train_fn: (state, batch) -> (state, scalars).
      workdir: folder of the run.
      num_steps: number of steps to record; 0 records nothing.
      steps_left: number of steps that the run still has to do.
    Raises:
      UserError: if the run is too short.
    """
    if num_steps == 0:
        return train_fn
    if steps_left < WARM_UP_STEPS + num_steps:
        raise UserError(
            f"--profile_steps is {num_steps}, and {steps_left} steps are left to train: expected "
            f"at least {WARM_UP_STEPS + num_steps}, as {WARM_UP_STEPS} come first; record fewer, "
            "or give more --config.num_steps."
        )
    calls = 0

    def recorded(state: State, batch: Batch) -> tuple[State, Scalars]:
        nonlocal calls
        calls += 1
        first, last = WARM_UP_STEPS + 1, WARM_UP_STEPS + num_steps
        if calls == first:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(workdir))
        if not first <= calls <= last:
            return train_fn(state, batch)
        with jax.profiler.StepTraceAnnotation("train", step_num=calls):
            result = train_fn(state, batch)
        if calls == last:
            jax.block_until_ready(result)
            jax.profiler.stop_trace()
            logger.info(
                "Recorded %d steps in %s. To see them: pip install tensorboard-plugin-profile, "
                "then tensorboard --logdir=%s.",
                num_steps,
                workdir / FOLDER,
                workdir,
            )
        return result

    return recorded
