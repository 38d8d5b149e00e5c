"""Checks a command without its work: its flags, configuration, files and modes, by its own code.

A command of alp_jax runs to the point where its work would begin, which is replaced. So every flag
is parsed, every field and variant exists, and settings agree.
"""

import configparser
import contextlib
import importlib.util
import pathlib
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from alp_jax.settings.schema import build
from alp_jax.workdir.settings import build_settings
from tests import commands
from tests.commands import ROOT
from tests.documented import find

# What a page leaves open -> what is tried.
_OPEN = {
    "--config=...": "--config=toy_cities:alp_gi",
    "--config=...:alp_gi": "--config=synthia_to_cityscapes:alp_gi",
    "--workdir=...": "--workdir=runs/alp",
}
# Lines that are no command of ours.
OTHERS = (
    "git clone <this repository> && cd alp_jax",
    "python3 -m venv .venv && . .venv/bin/activate",
    "tensorboard --logdir=runs",
    "sha256sum --check",
)
# What pages install beside this package.
_INSTALLED = {
    *("jax", "jax[cuda12]", "jax[tpu]", "flatbuffers", "pillow", "libtpu"),
    *("jupyterlab", "ipywidgets", "tensorboard-plugin-profile"),
}


class _Reached(Exception):
    """The point where a command's work begins."""


def create_folder(folder: pathlib.Path) -> None:
    """Makes a folder like a clone of a user: configurations, and the files that pages show."""
    shutil.copytree(
        ROOT / "configs", folder / "configs", ignore=shutil.ignore_patterns("__pycache__")
    )
    for page in find.list_pages():
        for name, text in find.find_files(page):
            if not (folder / name).exists():  # Pages show parts of a file later.
                (folder / name).write_text(text)
    weights = ("WEIGHTS.pth", "FILE.pth", "FILE.safetensors", "MOCO.pth", "TWO_LEVELS.pth")
    for name in (*weights, "D_main.pth", "D_aux.pth"):
        (folder / name).write_text("")
    for name in ("runs/alp", "runs/gta5_alp_gi"):
        (folder / name).mkdir(parents=True)


def check(text: str) -> None:
    """Checks a command in the working directory, which `create_folder` made.

    Raises:
      AssertionError: if it cannot work as it stands.
    """
    if text in OTHERS:
        return
    words = shlex.split(text, comments=True)
    while re.fullmatch(r"taskset|-c|\d|[A-Z_]+=\S+|uv", words[0]):
        words = words[1:]
    program = pathlib.Path(words[0]).name
    if program == "make":
        _check_make(*words[1:])
    elif program == "pip":
        _check_pip(words[1:])
    else:
        words = [word for word in words if word != "-P"]
        assert (program.rstrip("3"), words[1]) == ("python", "-m"), text
        module, *arguments = words[2:]
        _check_module(module, [_OPEN.get(argument, argument) for argument in arguments])


def _check_make(target: str) -> None:
    assert f" {target}" in re.findall(r"^\.PHONY:.*$", (ROOT / "Makefile").read_text(), re.M)[0]


def _check_pip(arguments: list[str]) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    flags = {"install", "wheel", "-e", "--editable", "-U", "--quiet", "--no-deps"}
    flags |= {"--resolution", "lowest-direct", "--target=libtpu"}
    for argument in arguments:
        if argument.startswith("."):
            extras = argument.removeprefix(".").strip("[]")
            assert not extras or set(extras.split(",")) <= set(setup["options.extras_require"])
        else:
            assert argument in flags | _INSTALLED, argument


def _check_module(module: str, arguments: list[str]) -> None:
    package = module.partition(".")[0]
    if module == "pip":
        _check_pip(arguments)
    elif module in ("pytest", "mkdocs"):
        paths = [word for word in arguments if word.startswith("tests")]
        assert all((ROOT / path).exists() for path in paths), paths
    elif package == "alp_jax" or module == "data_prep.convert_weights":
        if arguments:
            _reach(module, arguments)
        assert importlib.util.find_spec(module), module
    elif package == "data_prep":
        help_of = commands.call(module, *arguments, "--help")  # After its flags are parsed.
        assert help_of.returncode == 0, help_of.stderr
    else:
        assert package in ("benchmarks", "tests"), module
        _check_flags_in_source(module, arguments)


def _check_flags_in_source(module: str, arguments: list[str]) -> None:
    spec = importlib.util.find_spec(module)
    assert spec, module
    assert spec.origin, module
    main = pathlib.Path(spec.origin)
    files = [main.with_name("__main__.py") if main.name == "__init__.py" else main]
    files.append(ROOT / "benchmarks" / "results.py")
    source = "\n".join(path.read_text() for path in files)
    for argument in arguments:
        assert f'"{argument.partition("=")[0]}"' in source, (module, argument)


def _reach(module: str, arguments: list[str]) -> None:
    if any(argument.startswith("--seeds=") for argument in arguments):
        arguments = [*arguments, "--seeds=1"]  # More are the same.
    with _work_replaced():
        try:
            done = commands.call(module, *arguments)
        except _Reached:
            return
    assert "--help" in arguments, done.stdout + done.stderr


@contextlib.contextmanager
def _work_replaced() -> Iterator[None]:
    """Replaces what commands do by a check of the configuration, after which they are left."""

    def stop(*_: Any, **__: Any) -> None:
        raise _Reached

    def check_run(run_config: Any, *_: Any, **__: Any) -> None:
        build_settings(run_config)
        raise _Reached

    def check_evaluation(_: Any, run_config: Any, **__: Any) -> None:
        if run_config is not None:
            build_settings(run_config)
        raise _Reached

    def check_shift(run_config: Any, _: Any) -> None:
        from alp_jax.domain_shift.settings import ShiftSettings

        build(ShiftSettings, run_config)
        raise _Reached

    works: dict[str, Callable[..., None]] = {
        "alp_jax.run.train.train_and_evaluate": check_run,
        "alp_jax.run.train.replay_step": stop,
        "alp_jax.evaluation.evaluator.evaluate_checkpoint": check_evaluation,
        "alp_jax.evaluation.segmenter.load_segmenter": stop,
        "alp_jax.report.writing.write_report": stop,
        "alp_jax.study.runner.run": stop,
        "alp_jax.study.outputs.write_report": stop,
        "alp_jax.study.comparison.compare_studies": stop,
        "alp_jax.domain_shift.experiment.run_experiment": check_shift,
        "alp_jax.devices.processes.join": stop,
        "alp_jax.study.outputs.run_experiment": stop,
        "data_prep.convert_weights.importing.import_weights": stop,
        "data_prep.convert_weights.exporting.export_weights": stop,
        "data_prep.convert_weights.exporting.export_discriminator": stop,
    }
    with contextlib.ExitStack() as stack:
        for name, work in works.items():
            stack.enter_context(mock.patch(name, work))
        yield
