"""Recording a few steps for TensorBoard's profiler and Perfetto.

Synopsis:

  with Profile(workdir, first_step=110, num_steps=5) as profile:
      for step in ...:
          profile.before(step)
          state, scalars = train_fn(state, batch)
          profile.after(step, scalars)
"""

import logging
import pathlib
from typing import Any, Self

import jax

logger = logging.getLogger(__name__)

FOLDER = "plugins/profile"  # Below the workdir, where TensorBoard looks.
WARM_UP_STEPS = 10  # That are not recorded: caches fill, and the input pipeline gets ahead.


class Profile:
    """Records the steps of one interval, whole: it waits for the device before it begins and ends.

    With no steps it does nothing.
    """

    def __init__(self, workdir: pathlib.Path, *, first_step: int, num_steps: int):
        self._workdir = workdir
        self._steps = range(first_step, first_step + num_steps)
        self._running = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def before(self, step: int, pending: Any) -> None:
        """Begins to record where `step` is the first; `pending` is what to wait for before."""
        if self._steps and step == self._steps[0]:
            jax.block_until_ready(pending)
            jax.profiler.start_trace(str(self._workdir))
            self._running = True

    def after(self, step: int, pending: Any) -> None:
        """Ends the recording where `step` is the last."""
        if self._running and step == self._steps[-1]:
            jax.block_until_ready(pending)
            self._stop()

    def _stop(self) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            logger.info(
                "Recorded %d steps in %s: tensorboard --logdir=%s, with "
                "tensorboard-plugin-profile installed.",
                len(self._steps),
                self._workdir / FOLDER,
                self._workdir,
            )
