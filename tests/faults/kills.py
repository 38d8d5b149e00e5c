"""Kills a short training again and again; it must end in the bits of one that nobody killed.

python -m tests.faults.kills --kills=30

Each time, the same command is started and, after a random time, killed: with SIGKILL at any moment,
with SIGKILL while a checkpoint is being written, or with SIGTERM, after which it must have saved
and exit with its own status. A training that ends is followed by another, until all kills were
done; the parameters, statistics and optimizer states of each must equal those of a training that
was never touched, in every bit. --damage also flips a byte of the newest checkpoint after some of
the kills, which must be noticed.
"""

import argparse
import json
import pathlib
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from alp_jax.command import cli
from alp_jax.run import assembly
from alp_jax.workdir import checkpoint
from tests import tiny
from tests.faults import command

NUM_STEPS = 120
_TERM, _ANY, _SAVE = "SIGTERM", "SIGKILL", "SIGKILL during a save"
KINDS = (_ANY, _SAVE, _TERM)
Start = Callable[[Sequence[str], pathlib.Path], command.Started]


def arguments(config_flag: str, workdir: pathlib.Path, num_steps: int) -> list[str]:
    """The command that is started every time."""
    return [
        config_flag,
        f"--workdir={workdir}",
        f"--config.num_steps={num_steps}",
        f"--config.optimizer.horizon_steps={num_steps}",
        "--config.checkpoint.every_steps=5",
        "--config.log_every_steps=10",
        f"--config.evaluation.every_steps={num_steps // 2}",
        "--config.model.backbone.batch_norm_mode=running",
    ]


def read_state(workdir: pathlib.Path, num_steps: int) -> list[np.ndarray]:
    """Reads every array of the state after the last step."""
    from alp_jax.workdir import config

    run_config = config.load(workdir)
    setup = assembly.create_setup(run_config)
    like = jax.eval_shape(lambda: assembly.create_train_state(setup, jax.random.key(0)))
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        state = checkpoints.restore(num_steps, like=like)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


class Killer:
    """Starts the training and kills it."""

    def __init__(
        self, start: Start, folder: pathlib.Path, config_flag: str, seed: int, num_steps: int
    ):
        self._start, self._folder, self._config_flag = start, folder, config_flag
        self._num_steps = num_steps
        self._random = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.resumed_from: list[int] = []
        self.damaged = 0

    def run_once(self, workdir: pathlib.Path, kind: str | None) -> bool:
        """Starts the command and kills it, or lets it end; whether the training is over.

        Raises:
          AssertionError: if it ends in another way than it should.
        """
        (self._folder / "log").unlink(missing_ok=True)
        command_line = arguments(self._config_flag, workdir, self._num_steps)
        started = self._start(command_line, self._folder / "log")
        if kind is not None:
            self._wait_for_the_moment(started, workdir, kind)
            started.kill(signal.SIGTERM if kind == _TERM else signal.SIGKILL)
        status = started.wait(300)
        log = started.read_log()
        if status is None:
            started.kill(signal.SIGKILL)
            raise AssertionError(f"It neither goes on nor ends after {kind}: {log}")
        found = re.search(r"from step (\d+)", log)
        self.resumed_from.append(int(found[1]) if found else 0)
        assert "Traceback" not in log, log
        if status == 0:
            return True
        assert kind is not None, log
        expected = cli.EXIT_STOPPED if kind == _TERM else -signal.SIGKILL
        # A signal that comes while Python starts, before anybody takes it, ends the process.
        assert status in (expected, -signal.SIGTERM if kind == _TERM else expected), log
        self.kills[kind] += 1
        number, step = sum(self.kills.values()), self.resumed_from[-1]
        print(f"kill {number}: {kind}, of a start from step {step}", file=sys.stderr, flush=True)
        return False

    def _wait_for_the_moment(
        self, started: command.Started, workdir: pathlib.Path, kind: str
    ) -> None:
        command.wait_until(
            lambda: "Compiled the train step" in started.read_log() or started.wait(0) is not None,
            300,
        )
        if kind == _SAVE:
            folder = workdir / checkpoint.FOLDER
            skipped = self._random.randrange(5)
            seen: set[str] = set()

            def is_saving() -> bool:
                seen.update(path.name for path in folder.glob("*.unfinished*"))
                return len(seen) > skipped or started.wait(0) is not None

            command.wait_until(is_saving, 60)
            time.sleep(self._random.uniform(0, 0.03))
        else:
            # From before the first step to beyond the last.
            time.sleep(self._random.uniform(0, 3 * self._num_steps / NUM_STEPS))

    def damage(self, workdir: pathlib.Path) -> None:
        """Flips one bit of the newest checkpoint, where there is an older one."""
        steps = sorted(
            int(path.name)
            for path in (workdir / checkpoint.FOLDER).glob("*")
            if path.name.isdigit()
        )
        if len(steps) < 2:
            return
        newest = workdir / checkpoint.FOLDER / str(steps[-1])
        path = self._random.choice([path for path in newest.rglob("*") if path.is_file()])
        data = bytearray(path.read_bytes())
        data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
        path.write_bytes(data)
        self.damaged += 1


def run(
    start: Start,
    folder: pathlib.Path,
    data_dir: pathlib.Path,
    *,
    kills: int,
    seed: int = 0,
    damages: bool = False,
    num_steps: int = NUM_STEPS,
) -> dict[str, Any]:
    """Runs everything, with trainings of `num_steps`.

    Returns:
      what was done: kills by kind, the steps that were resumed from, trainings, seconds.
    Raises:
      AssertionError: if a training did not resume, or ended in other bits.
    """
    began = time.monotonic()
    config_flag = command.write_config(folder, data_dir)
    killer = Killer(start, folder, config_flag, seed, num_steps)
    assert killer.run_once(folder / "untouched", None)
    expected = read_state(folder / "untouched", num_steps)
    trainings = 0
    while sum(killer.kills.values()) < kills:
        workdir = folder / f"killed_{trainings}"
        is_over = False
        while not is_over:
            done = sum(killer.kills.values())
            is_over = killer.run_once(workdir, KINDS[done % len(KINDS)] if done < kills else None)
            if damages and not is_over and killer.kills[_SAVE] > killer.damaged:
                killer.damage(workdir)
        found = read_state(workdir, num_steps)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        trainings += 1
    return {
        "kills": dict(killer.kills),
        "damaged_checkpoints": killer.damaged,
        "resumed_from_steps": killer.resumed_from[1:],
        "trainings_with_the_same_bits": trainings,
        "arrays_compared": len(expected),
        "seconds": round(time.monotonic() - began),
    }


def main() -> None:
    """Parses the flags, runs, and prints what was done as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--damage", action="store_true")
    parser.add_argument("--fork", action="store_true", help="spare the imports (as CI does)")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "data").mkdir()
        tiny.build(folder / "data")
        start = command.fork if flags.fork else command.start
        outcome = run(
            start, folder, folder / "data", kills=flags.kills, seed=flags.seed, damages=flags.damage
        )
    print(json.dumps(outcome, indent=1))


if __name__ == "__main__":
    main()
