"""Runs the commands of pages as they stand, in their order, with a small network and few images.

Synopsis:

  with small_world(folder):
      printed = follow("docs/index.md")
"""

import contextlib
import html
import importlib
import pathlib
import re
import shlex
import sys
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import ml_collections

import configs
from data_prep.toy_cities import builder, cli
from tests import commands, tiny
from tests.commands import ROOT
from tests.documented import check, find

# In place of 1500 images for training and 200 for scores.
NUM_TRAIN, NUM_EVAL = 12, 6
# Flags that shorten a command, by its module; a later flag of a name counts.
_SHORT = {
    "data_prep.toy_cities": ("--workers=1",),  # Processes take longer to start than to work.
    "data_prep.image_folder": ("--workers=1",),
    "alp_jax.study": ("--seeds=1",),
    "alp_jax.domain_shift": (
        *("--config.num_validation=4", "--config.num_steps=2", "--config.num_runs=1"),
        *("--config.eval_every_steps=1", "--config.widths=4,4", "--config.patch_sizes=16"),
    ),
}
_CONFIG = """
from tests.documented import journey


def get_config(variant="alp_gi"):
    return journey.get_config(variant)
"""


def get_config(variant: str) -> ml_collections.ConfigDict:
    """Creates the configuration of the cities, in two steps of the smallest network."""
    config = importlib.import_module("configs.toy_cities").get_config(variant)
    with config.unlocked():
        config.num_steps = config.log_every_steps = 2
        config.evaluation.every_steps = config.checkpoint.every_steps = 2
        config.evaluation.batch_size = 6
        config.evaluation.num_sheet_images = 1
        config.tensorboard = False
        tiny.set_sizes(config)
    return config


@contextlib.contextmanager
def small_world(folder: pathlib.Path, num_train: int = NUM_TRAIN) -> Iterator[None]:
    """Makes a folder like a user's clone the working directory; its cities and network are small.

    Args:
      folder: empty.
      num_train: images of each city for training.
    """
    check.create_folder(folder)
    (folder / "configs" / "toy_cities.py").write_text(_CONFIG)
    for path in (folder / "runs").iterdir():
        path.rmdir()
    integers = tuple(
        (name, {"num_train": num_train, "num_eval": NUM_EVAL}.get(name, default), text)
        for name, default, text in cli._INTEGERS
    )
    cities = types.SimpleNamespace(get_config=get_config)
    changes: tuple[contextlib.AbstractContextManager[Any], ...] = (
        contextlib.chdir(folder),
        mock.patch.object(commands, "ROOT", folder),
        mock.patch.object(cli, "_INTEGERS", integers),
        mock.patch.multiple(builder, NUM_TRAIN=num_train, NUM_EVAL=NUM_EVAL),
        mock.patch.object(sys, "path", [str(folder), *sys.path]),
        mock.patch.object(configs, "toy_cities", cities),
        # TFDS takes these for their names.
        *(
            mock.patch.multiple(known, num_train=num_train, num_eval=NUM_EVAL)
            for known in builder.ToyCities.BUILDER_CONFIGS
        ),
    )
    with contextlib.ExitStack() as stack:
        for change in changes:
            stack.enter_context(change)
        yield
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


def follow(page: str) -> list[str]:
    """Runs the commands of a page's blocks; returns the commands that they print.

    Raises:
      AssertionError: if one does not end with exit status 0.
    """
    printed = []
    for found in find.find_in_page(ROOT / page, inline=False):
        if found.text.startswith("python -m "):
            printed += find_printed(run(found.text))
    return printed


def run(text: str) -> str:
    """Runs a command of ours in the working directory; returns what it wrote.

    Raises:
      AssertionError: if it does not end with exit status 0.
    """
    python, flag, module, *arguments = shlex.split(text, comments=True)
    assert (pathlib.Path(python).name, flag) == ("python", "-m"), text
    # A study is also compared and reported, where nothing is trained.
    trains = not any(flag.startswith(("--mode=", "--studies=")) for flag in arguments)
    short = _SHORT.get(module, ()) if trains else ()
    shortened = {flag.partition("=")[0] for flag in short}  # A list that is given twice is longer.
    kept = [each for each in arguments if each.partition("=")[0] not in shortened]
    done = commands.call(module, *kept, *short)
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def find_saved(folder: pathlib.Path) -> list[str]:
    """Finds the commands in the files of a folder."""
    kinds = (".md", ".html", ".json", ".py", ".tex")
    files = [p for p in folder.rglob("*") if p.suffix in kinds and p.is_file()]
    texts = [
        html.unescape(re.sub("<[^<>]+>", "\n", path.read_text()))
        if path.suffix == ".html"
        else path.read_text()
        for path in files
    ]
    return [found for text in texts for found in find_printed(text)]


def find_printed(text: str) -> list[str]:
    """Finds the commands, and hints such as "--mode=report --workdir=runs/alp", in an output."""
    found = [command.text for command in find.find_in_text(text, "")]
    hints = re.findall(r"(?<![\w.] )--mode=\w+(?: --[\w.]+=[^\s,;]+)+", " ".join(text.split()))
    return [*found, *(f"python -m alp_jax.main {hint}" for hint in hints)]
