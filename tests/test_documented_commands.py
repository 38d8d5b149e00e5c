"""Every command that we write down, in pages, help texts, messages and the Makefile, can work."""

import pathlib
import shutil
import sys

import pytest

from tests import commands
from tests.documented import check, find, journey

FOUND = {
    "pages": find.find_in_pages(),
    "code": find.find_in_code(),
    "Makefile": find.find_in_makefile(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """A stand-in for a user's clone."""
    folder = tmp_path_factory.mktemp("clone")
    check.create_folder(folder)
    return folder


@pytest.fixture(autouse=True)
def _inside(folder, monkeypatch):
    """Commands are given in that folder, where Python also looks for modules."""
    monkeypatch.setattr(commands, "ROOT", folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    yield
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("kind", FOUND)
def test_every_command_can_work(kind):
    wrong = []
    for text in sorted({found.text for found in FOUND[kind]}):
        places = sorted({found.place for found in FOUND[kind] if found.text == text})
        try:
            check.check(text)
        except AssertionError as error:
            wrong.append(f"{', '.join(places)}: {text}\n    {error}")
    assert not wrong, "\n".join(wrong)


def test_files_are_found_in_pages(folder):
    expected = {"own.py", "three.py", "cracks.py", "my_classes.yaml", "cracks.yaml", "masks.yaml",
                "map.yaml", "my_method.py", "my_network.py", "my_backbone.py"}  # fmt: skip
    assert expected <= {path.name for path in folder.iterdir()}
    assert "255: crack" in (folder / "masks.yaml").read_text()


def test_commands_are_found_where_they_are():
    places = {kind: {found.place for found in commands} for kind, commands in FOUND.items()}
    expected = {"README.md", "docs/index.md", "docs/own_data.md", "docs/own_parts.md",
                "docs/paper.md", "docs/predict.md", "docs/tpu.md", "docs/watch.md",
                "docs/faults.md", "data_prep/README.md", "CONTRIBUTING.md"}  # fmt: skip
    assert expected <= places["pages"]
    assert {"alp_jax/main.py", "configs/toy_cities.py", "data_prep/gta5.py"} <= places["code"]
    assert len(FOUND["pages"]) > 80
    assert len(FOUND["Makefile"]) > 15


@pytest.mark.parametrize(
    "text",
    [
        "python -m alp_jax.main --config=configs/toy_cities.py:alp --workdir=runs/alp",
        "python -m alp_jax.main --config=toy_cities:alp_gi --workdir=a --config.data.sauce=b",
        "python -m alp_jax.main --config=none.py:alp_gi --workdir=runs/alp",
        "python -m alp_jax.main --mode=evaluate --workdir=runs/alp --input=frames",
        "python -m alp_jax.main --mode=evaluate --workdir=runs/alp --splitt=test",
        "python -m alp_jax.study --config=toy_cities --workdir=a --sweep=patchsize:32",
        "python -m alp_jax.domain_shift --config=domain_shift:toy_cities --output=a "
        "--config.num_steps=many",
        "python -m data_prep.gta5 --raw=downloads/gta5",
        "python -m data_prep.cityscapes --raw_dir=downloads/cityscapes --workers=two",
        "python -m data_prep.convert_weights --input=WEIGHTS.pth --output=a --layout=advnt",
        "python -m benchmarks.train_step --scale=1",
        "python -m benchmarks.nothing",
        "pip install -e .[converts]",
        "make everything",
        "rm -rf datasets",
    ],
)
def test_a_command_that_cannot_work_is_found(text):
    with pytest.raises(AssertionError):
        check.check(text)


def test_a_user_follows_the_first_pages(tmp_path):
    """`python -m tests.documented` follows the others."""
    with journey.small_world(tmp_path):
        printed = journey.follow("docs/index.md")
        shutil.copytree("runs/toy_cities/alp_gi", "runs/alp")  # As docs/predict.md calls its run.
        shutil.copytree("runs/toy_cities/alp_gi/evaluation", "frames")  # Pictures, and more.
        printed += journey.follow("docs/predict.md")
        assert any("--mode=report --workdir=runs/toy_cities/alp_gi" in text for text in printed)
        for text in sorted({*printed, *journey.find_saved(tmp_path / "runs")}):
            check.check(text)
    assert (tmp_path / "exported" / "segmenter.jax").exists()
    assert (tmp_path / "predictions" / "overlay").exists()
