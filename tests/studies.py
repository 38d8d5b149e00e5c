"""Studies of the tiny network, with trainings that cost nothing and write what real ones do."""

import json
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any, Self

import pytest

from alp_jax.data.labels import load_label_set
from alp_jax.errors import Diverged
from alp_jax.run import train
from alp_jax.study import outputs, runner, scores, scoring
from alp_jax.study.plan import create_plan
from alp_jax.workdir import checkpoint, config
from alp_jax.workdir.scores import summary_path
from alp_jax.workdir.settings import RunSettings, build_settings
from tests.test_checkpoint import create_state


class FakeTraining:
    """Counts trainings, and writes scores that are a function of the configuration.

    Attributes:
      trained: the workdirs, in order.
      averaged: the members' workdirs with their weights, of every evaluation of an ensemble.
      kill_every: raises in every so-manieth training, after it has begun; 0: never.
      diverges: ends of the folders of trainings that diverge.
    """

    def __init__(self) -> None:
        self.trained: list[pathlib.Path] = []
        self.averaged: list[dict[str, float]] = []
        self.kill_every = 0
        self.diverges: tuple[str, ...] = ()

    @classmethod
    def replace_training(cls, monkeypatch: pytest.MonkeyPatch) -> Self:
        """Takes the place of training and evaluation."""
        training = cls()
        monkeypatch.setattr(train, "train_and_evaluate", training.train)
        monkeypatch.setattr(scoring.evaluator, "evaluate_checkpoint", training.evaluate)
        return training

    def train(self, run_config: Any, workdir: pathlib.Path, *, bar: Any) -> None:
        """In the place of train.train_and_evaluate."""
        del bar
        self.trained.append(workdir)
        settings = build_settings(run_config)
        assert not settings.init_from or checkpoint.list_steps(pathlib.Path(settings.init_from))
        config.save(settings, workdir)
        if self.kill_every and len(self.trained) % self.kill_every == 0:
            raise KeyboardInterrupt
        if str(workdir).endswith(self.diverges or "\0"):
            raise Diverged("loss/adversarial is inf at step 4.")
        with checkpoint.Checkpoints(workdir, keep_last=9) as checkpoints:
            for step in (0, 3, 6):
                path = summary_path(workdir, step)
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(self._summarise(settings, workdir, step, "validation")))
                if step:
                    checkpoints.save(step, create_state(step))

    def evaluate(
        self,
        workdir: pathlib.Path,
        run_config: Any,
        *,
        checkpoint_name: str,
        split: str,
        others: Sequence[str] = (),
        weights: Sequence[float] = (),
    ) -> Any:
        """In the place of evaluator.evaluate_checkpoint."""
        for member in (workdir, *others):
            assert checkpoint.list_steps(pathlib.Path(member))
        if others:
            self.averaged.append(dict(zip([str(workdir), *others], weights, strict=True)))
        step = int(checkpoint_name) if checkpoint_name.isdigit() else 6
        summary = self._summarise(build_settings(run_config), workdir, step, split)
        return type("Evaluation", (), {"summary": summary, "save": _mark})()

    def _summarise(
        self, settings: RunSettings, workdir: pathlib.Path, step: int, split: str
    ) -> dict[str, Any]:
        name = "/".join([*workdir.parts[-2:], str(step), split])
        score = zlib.crc32(name.encode()) % 1000 / 1000
        dataset = settings.evaluation.dataset
        per_class = dict.fromkeys(load_label_set(settings.data.label_set).names, score)
        return {"step": step, "dataset": dataset, "split": split, "mean_iou": score,
                "iou_per_class": per_class}  # fmt: skip


def _mark(_: Any, workdir: pathlib.Path) -> None:
    """Creates the folder of a result, as saving it does."""
    workdir.mkdir(parents=True, exist_ok=True)


def write_config(data_dir: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Writes a configuration of the tiny network; every method starts from `warmup`."""
    path = folder / "tiny_study.py"
    path.write_text(
        "import pathlib\nfrom tests import tiny\n\n"
        "def get_config(variant='alp_gi'):\n"
        f"    config = tiny.get_config(pathlib.Path({str(data_dir)!r}), variant)\n"
        "    with config.unlocked():\n"
        "        config.start_variant = '' if variant == 'warmup' else 'warmup'\n"
        "    return config\n"
    )
    return path


def run_tiny(
    config_file: pathlib.Path,
    workdir: pathlib.Path,
    *flags: str,
    methods: Sequence[str] = ("source_only", "alp_gi"),
    num_seeds: int = 2,
) -> scores.Study:
    """Runs source-only and ALP with two seeds each, or other methods."""
    plan = create_plan(
        workdir, str(config_file), flags, methods=methods, num_seeds=num_seeds, sweep=None
    )
    about = outputs.describe(plan, str(config_file), flags, "command")
    return runner.run(plan, about, save=lambda study: scores.save(study, workdir))
