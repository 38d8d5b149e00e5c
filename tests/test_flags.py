"""How commands read flags and find configurations: by path, by name, and beside a user's own."""

import pathlib
import subprocess
import sys

import pytest
from absl import flags

from alp_jax.command import configuration, flag_values, shipped
from alp_jax.errors import UserError
from alp_jax.settings.compare import flatten
from configs import default, toy_cities
from tests.commands import ROOT, call, read_error
from tests.refusals import refusal


def read(path: object, variant: str = "alp_gi", *overrides: str):
    return configuration.read_config(str(path), variant, overrides)


def write(folder: pathlib.Path, name: str, text: str) -> pathlib.Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# Configurations by name and path.


@pytest.mark.parametrize("name", ["toy_cities", "gta5_to_cityscapes", "image_folders", "default"])
def test_a_configuration_of_the_package_has_a_name_that_holds_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = read(name)
    monkeypatch.chdir(ROOT)
    assert flatten(found) == flatten(read(f"configs/{name}.py"))


def test_every_configuration_of_the_package_has_a_name():
    assert shipped.names() == sorted(
        path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "--config is empty: expected a Python file"),
        ("nosuch.py", "There is no configuration nosuch.py: expected a Python file"),
        ("toy_citis", "no configuration toy_citis (did you mean toy_cities?)"),
        ("configs/toy_city.py", "no configuration configs/toy_city.py (did you mean toy_cities?)"),
        ("configs/toy_cities.py", "configs/toy_cities.py (did you mean toy_cities?)"),
        ("sub/own", "There is no configuration sub/own (did you mean sub/own.py?)"),
        ("sub", "The configuration sub cannot be read (it is a folder)"),
        ("none.txt", "There is no configuration none.txt: expected"),
    ],
)
def test_a_configuration_that_is_not_there_is_one_sentence(given, message, tmp_path, monkeypatch):
    write(tmp_path, "sub/own.py", "")
    monkeypatch.chdir(tmp_path)
    found = refusal(lambda: read(given))
    assert found
    assert message in found
    assert found.endswith("toy_cities.") or "a folder" in found


def test_a_name_that_may_also_mean_a_file_is_refused(tmp_path, monkeypatch):
    write(tmp_path, "toy_cities.py", "def get_config(variant): return {}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"may mean toy_cities\.py here, or .* alp_jax: give --con"):
        read("toy_cities")
    monkeypatch.chdir(ROOT / "configs")
    assert read("toy_cities") == toy_cities.get_config("alp_gi")


@pytest.mark.parametrize(
    ("text", "variant", "message"),
    [
        ("x = 1", ":a", "own.py has no function get_config: expected get_config(variant) there"),
        ("def get_config(): pass", "", "get_config of own.py returns None: expected a config"),
        ("def get_config(): return {'seed': 1}", "", "returns {'seed': 1}: expected a config"),
        ("def get_config(): pass", ":alp_gi", "get_config of own.py takes none: give --config=own"),
        ("def get_config(variant): pass", "", "own.py needs: give --config=own.py:VARIANT."),
        (
            "\ndef get_config():\n    open('/nowhere/a')",
            "",
            "own.py cannot be read, line 3 (No such file or directory): mend that file.",
        ),
        (
            "from configs import toy_cities\ndef get_config(variant):\n"
            "    return toy_cities.get_config(variant)",
            ":alp_gl",
            "Unknown variant 'alp_gl' (did you mean alp_gi?): expected one of",
        ),
        ("import nothing_like_this", "", "cannot be read, line 1 (ModuleNotFoundError"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_sentence(
    text, variant, message, tmp_path, monkeypatch
):
    write(tmp_path, "own.py", text)
    monkeypatch.chdir(tmp_path)
    values = flags.FlagValues()
    argv = ["", f"--config=own.py{variant}"]
    configuration.define("", values)
    found = refusal(lambda: configuration.parse(values, argv))
    assert found
    assert message in found


# A user's own package `configs`.

OWN = "from configs import default, mine\n\ndef get_config(variant):\n"
OWN += "    config = default.get_config(variant)\n    config.seed = mine.SEED\n    return config\n"
READ = """
import sys
from alp_jax.command import configuration
assert configuration.read_config("own.py", "alp_gi").seed == 7
assert configuration.read_config("toy_cities", "alp_gi").num_steps == 500
import data_prep.toy_cities
from configs import default, mine
assert hasattr(default, "list_methods"), default
"""


@pytest.mark.parametrize("is_package", [True, False])
def test_own_folders_of_the_same_names_neither_hide_ours_nor_are_hidden(tmp_path, is_package):
    write(tmp_path, "own.py", OWN)
    write(tmp_path, "configs/mine.py", "SEED = 7\n")
    write(tmp_path, "configs/default.py", "raise RuntimeError('Of another project.')\n")
    if is_package:
        write(tmp_path, "configs/__init__.py", "raise RuntimeError('Of another project.')\n")
    script = f"import sys\nsys.path.append({str(ROOT)!r})\n{READ}"
    # `python -c` looks for modules in the working directory first.
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# Values.

STUDY = ("alp_jax.study", "--workdir=/nowhere/study")
PREDICT = ("alp_jax.main", "--mode=predict", "--workdir=a", "--input=b", "--output=/nowhere/c")
FOLDER = ("data_prep.image_folder", "--name=a", "--images=b", "--data_dir=/nowhere")
MAIN = ("alp_jax.main", "--config=toy_cities:alp_gi", "--workdir=/nowhere/run")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ((*MAIN, "--config.num_steps=abc"), "--config.num_steps is 'abc': expected a whole number"),
        ((*MAIN, "--config.num_steps=1.5"), "--config.num_steps is '1.5': expected a whole numb"),
        ((*MAIN, "--config.num_steps="), "--config.num_steps is '': expected a whole number"),
        ((*MAIN, "--config.seed", "x"), "--config.seed is 'x': expected a whole number"),
        (
            (*MAIN, "--config.optimizer.momentum=fast"),
            "--config.optimizer.momentum is 'fast': expected a number.",
        ),
        (
            (*MAIN, "--config.tensorboard=maybe"),
            "--config.tensorboard is 'maybe': expected true or false.",
        ),
        (
            (*MAIN, "--config.data.source_size=720 1280"),
            "--config.data.source_size is '720 1280': expected values with commas between them",
        ),
        (
            ("alp_jax.main", "--config.seed=1", *MAIN[1:]),
            "--config.seed=1 stands before --config: give --config first.",
        ),
        ((*MAIN, "--config.data=5"), "--config.data is '5': expected a block"),
        (
            (*MAIN, "--mode=trian"),
            "--mode is 'trian': expected one of train, evaluate, predict, re",
        ),
        ((*MAIN, "--mode=trian"), "(did you mean train?)"),
        ((*MAIN, "--profile_steps=-1"), "'-1': expected a whole number of at least 0."),
        ((*MAIN, "--flip=perhaps"), "--flip is 'perhaps': expected true or false."),
        ((*STUDY, "--seeds=many"), "--seeds is 'many': expected a whole number of at least 1."),
        ((*STUDY, "--seeds=0"), "--seeds is '0': expected a whole number of at least 1."),
        ((*STUDY, "--config=", "--seeds=1"), "--config is empty: expected a Python file"),
        ((*STUDY, "--config.seed=1"), "--config.seed=1 overrides a field of no configuration"),
        (
            ("alp_jax.domain_shift", "--config=domain_shift:toy_citis", "--output=/nowhere/a"),
            "Unknown variant 'toy_citis' (did you mean toy_cities?): expected one of gta5",
        ),
        (("alp_jax.domain_shift", "--config.seed=1"), "overrides a field of no configuration"),
        ((*PREDICT, "--max_megapixels=nan"), "--max_megapixels is nan: expected a finite number"),
        ((*FOLDER, "--max_megapixels=inf"), "--max_megapixels is inf: expected a finite number"),
        ((*PREDICT, "--scales=1e9"), "expected numbers above 0 and below 100."),
        (
            (
                "data_prep.convert_weights",
                f"--input={__file__}",
                "--output=/nowhere/a",
                "--checkpoint=best",
            ),
            "test_flags.py is a file, which has no checkpoints: leave it out.",
        ),
    ],
)
def test_a_wrong_value_of_a_flag_is_one_sentence(command, message):
    error = read_error(call(*command))
    assert message in error
    for words in ("literal", "invalid", "NoneType", "Traceback", "argument"):
        assert words not in error


def test_help_that_nobody_reads_to_its_end_is_no_traceback():
    command = f"{sys.executable} -m alp_jax.study --help | head -n 1"
    done = subprocess.run(
        command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "Trains and scores methods" in done.stdout
    assert "Traceback" not in done.stderr


def test_every_kind_of_flag_says_what_it_expects():
    """Of the types of fields that there are."""
    values = flags.FlagValues()
    configuration.define("", values)
    config = default.get_config()
    for field, value in flatten(config).items():
        if isinstance(value, str):
            continue  # Any text is one.
        text = "a b" if isinstance(value, list) else "x"
        argv = ["", f"--config.{field}={text}"]
        message = refusal(lambda argv=argv: configuration.override(config, argv[1:]))
        assert message
        assert message.startswith(f"--config.{field} is {text!r}: expected "), message
    assert flag_values.describe_wrong(values, [""]) is None


def test_overrides_are_applied_to_a_configuration_that_is_there():
    config = toy_cities.get_config("alp_gi")
    given = ["--config.seed=3", "--config.data.source_size", "8,16", "--noconfig.tensorboard"]
    changed = configuration.override(config, given)
    assert (changed.seed, changed.data.source_size, changed.tensorboard) == (3, (8, 16), False)
    assert config.seed == 0
    assert configuration.split(["", *given, "--flip"]) == (["", "--flip"], given)
    with_file = ["", "--config=toy_cities", *given]
    assert configuration.split(with_file) == (with_file, [])
