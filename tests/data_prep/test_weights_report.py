"""The commands that a conversion prints work as they are printed."""

import json
import re
import shlex
import shutil

import torch

from alp_jax.workdir import config, files
from data_prep.convert_weights import importing
from data_prep.convert_weights.importing import Choices
from tests import commands, tiny
from tests.data_prep import published_networks as published

# What makes the printed run small: data, sizes and steps; it is otherwise the paper's method.
SMALL = (
    "--config.data.source=tiny/source",
    "--config.data.target=tiny/target_unlabelled",
    "--config.evaluation.dataset=tiny/target",
    f"--config.data.source_size={tiny.HEIGHT},{tiny.WIDTH}",
    f"--config.data.target_size={tiny.HEIGHT},{tiny.WIDTH}",
    "--config.terms.adversarial.patches.patch_size=16,16",
    "--config.terms.adversarial.widths=4,4",
    "--config.num_steps=1",
    "--config.tensorboard=False",
)


def convert(folder, layout, num_classes=19, label_set=None):
    torch.save(published.create(layout, num_classes).state_dict(), folder / "file.pth")
    choices = Choices(layout, label_set)
    return importing.import_weights(folder / "file.pth", folder / "pretrained", choices)


def list_commands(report):
    return [line[2:] for line in report.splitlines() if line.startswith("  python -m ")]


def run(command, *more):
    python, flag, module, *arguments = shlex.split(command)
    assert (python, flag) == ("python", "-m")
    return commands.call(module, *arguments, *more)


def test_the_printed_evaluation_finds_the_dataset_of_the_readme(tmp_path, data_dir, monkeypatch):
    report = convert(tmp_path, "advent_single")
    *_, command = list_commands(report)
    assert "--mode=evaluate" in command
    preparation = "python -m data_prep.cityscapes --raw_dir={} --data_dir=datasets --size=512,1024"
    assert preparation.format("RAW") in report
    readme = (commands.ROOT / "README.md").read_text()
    assert preparation.format("downloads/cityscapes") in readme
    monkeypatch.setattr(commands, "ROOT", tmp_path)  # Where the command is given.
    missing = commands.read_error(run(command))
    assert "No prepared dataset at datasets/cityscapes/labelled_512x1024" in missing
    there = tmp_path / "datasets" / "cityscapes" / "labelled_512x1024"
    shutil.copytree(data_dir / "tiny" / "target", there)
    path = tmp_path / "pretrained" / config.FILE_NAME
    fields = json.loads(path.read_text())
    fields["data"]["target_size"] = [tiny.HEIGHT, tiny.WIDTH]  # Which takes less time.
    files.write_json(path, fields)
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert "cityscapes/labelled_512x1024 validation" in done.stdout


def test_the_printed_start_trains_the_papers_method(tmp_path, data_dir):
    """Of weights with two classifiers, too: the method has one."""
    command = list_commands(convert(tmp_path, "advent"))[0]
    assert "--config=configs/gta5_to_cityscapes.py:alp_gi --workdir=runs/gta5_alp_gi " in command
    command = command.replace("--workdir=runs", f"--workdir={tmp_path}")
    done = run(command, *SMALL, f"--config.data.data_dir={data_dir}")
    assert done.returncode == 0, done.stderr
    settings = config.load(tmp_path / "gta5_alp_gi")
    assert sorted(settings.model.heads) == ["main"]
    assert sorted(settings.terms) == ["adversarial", "cross_entropy"]
    assert "Its aux_classifier is not used." in done.stderr


def test_a_method_that_uses_both_classifiers_is_named_beside_it(tmp_path):
    report = convert(tmp_path, "advent")
    _, second, _ = list_commands(report)
    named = "adaptsegnet"  # The first of several.
    assert f"--config=configs/gta5_to_cityscapes.py:{named} --workdir=runs/gta5_{named} " in second
    assert f"It does not use their classifier aux, which the method {named} does:\n" in report


def test_classes_of_ones_own_ask_for_the_dataset(tmp_path):
    (tmp_path / "three.yaml").write_text("classes: [a, b, c]\n")
    report = convert(tmp_path, "clan", 3, str(tmp_path / "three.yaml"))
    start, evaluate = list_commands(report)
    assert "--config=configs/image_folders.py:alp_gi " in start
    assert f"--config.data.label_set={tmp_path / 'three.yaml'}" in start
    assert "in a copy of that file with your own datasets:" in report
    assert re.search(r"NAME and SPLIT of a prepared dataset of these classes:\n", report)
    assert evaluate.endswith("--config.evaluation.dataset=NAME --config.evaluation.split=SPLIT")


def test_a_path_with_a_space_is_quoted(tmp_path):
    folder = tmp_path / "my weights"
    folder.mkdir()
    start, evaluate = list_commands(convert(folder, "advent_single"))
    workdir = str(folder / "pretrained")
    assert f"--config.init_from={workdir}" in shlex.split(start)
    assert f"--workdir={workdir}" in shlex.split(evaluate)
