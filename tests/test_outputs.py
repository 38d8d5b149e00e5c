"""No command writes over, or into, what neither it nor an earlier run of it has made."""

import io
import os
import pathlib
from collections.abc import Callable

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from alp_jax.errors import UserError
from alp_jax.workdir import config, files, outputs
from tests.commands import call, read_error
from tests.faults import command

# What a user may keep in a folder; some have the names of our own files.
OWN_FILES = (
    "holiday.jpg",
    "lock",
    "config.json",
    "metrics.jsonl",
    "study.json.txt",
    "comparison.md",
    "report.html",
    "segmenter.json",
    "predictions.json",
    "label_ids/0001.png",
    "images/0001.png",
)
NOTES = b'{"data": "mine", "model": "mine"}'


def fill(folder: pathlib.Path) -> dict[str, bytes]:
    """Writes a user's files; returns what the folder then holds."""
    for name in OWN_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(NOTES)
    return read(folder)


def read(folder: pathlib.Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


class Commands:
    """Every command that writes a folder, with a given folder as its output."""

    def __init__(self, folder: pathlib.Path, data_dir: pathlib.Path, run: pathlib.Path):
        self._config, self._data_dir = command.write_config(folder, data_dir), data_dir
        self._run, self._images = run, folder / "photos"

    def arguments(self, name: str, output: pathlib.Path) -> list[str]:
        match name:
            case "train":
                return ["alp_jax.main", self._config, f"--workdir={output}"]
            case "predict":
                self._images.mkdir(exist_ok=True)
                files.write_bytes(self._images / "a.png", tiny_png())
                given = [f"--input={self._images}", f"--output={output}"]
                return ["alp_jax.main", "--mode=predict", f"--workdir={self._run}", *given]
            case "predictions of a split":
                mode = ["--mode=evaluate", f"--workdir={self._run}"]
                return ["alp_jax.main", *mode, f"--predictions={output}"]
            case "export":
                return ["alp_jax.export", f"--workdir={self._run}", f"--output={output}"]
            case "study":
                return ["alp_jax.study", self._config, f"--workdir={output}", "--seeds=1"]
            case "domain_shift":
                experiment = "--config=configs/domain_shift.py:toy_cities"
                data = [
                    f"--config.data.data_dir={self._data_dir}",
                    "--config.data.source=tiny/source",
                    "--config.data.target=tiny/target",
                    "--config.data.target_validation=",
                    "--config.data.size=16,32",
                    "--config.patch_sizes=8",
                    "--config.num_validation=2",
                ]
                return ["alp_jax.domain_shift", experiment, *data, f"--output={output}"]
        raise AssertionError(name)


def tiny_png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def commands(tmp_path, data_dir, saved_run):
    return Commands(tmp_path, data_dir, saved_run)


ALL = ("train", "predict", "predictions of a split", "export", "study", "domain_shift")


@pytest.mark.parametrize("name", ALL)
def test_a_folder_of_a_user_is_left_as_it_is(commands, tmp_path, name):
    mine = tmp_path / "mine"
    mine.mkdir()
    before = fill(mine)
    os.symlink(mine, tmp_path / "link")
    error = read_error(call(*commands.arguments(name, tmp_path / "link")))
    assert f"{tmp_path / 'link'} holds 'comparison.md', and is no folder of" in error
    assert "so files of yours might be replaced: give a new or an empty folder as --" in error
    assert read(mine) == before


@pytest.mark.parametrize("name", ALL)
def test_a_folder_of_another_command_is_left_as_it_is(commands, tmp_path, name):
    made = tmp_path / "made"
    outputs.claim(made, outputs.Kind("something else"))
    (made / "result.txt").write_text("42")
    before = read(made)
    error = read_error(call(*commands.arguments(name, made)))
    assert "holds 'result.txt', and is no folder of" in error
    assert read(made) == before


@pytest.mark.parametrize("name", ["predict", "predictions of a split", "export", "domain_shift"])
def test_nothing_is_written_where_a_link_leads(commands, tmp_path, name):
    mine = tmp_path / "mine"
    mine.mkdir()
    before = fill(mine)
    made = tmp_path / "made"
    kinds = {
        "predict": "predictions",
        "predictions of a split": "predictions of a split",
        "export": "an exported segmenter",
        "domain_shift": "an experiment",
    }
    outputs.claim(made, outputs.Kind(kinds[name]))
    (made / "curves").mkdir()
    os.symlink(mine, made / "curves" / "deep")
    error = read_error(call(*commands.arguments(name, made)))
    assert "holds the link curves/deep, and files where it leads might be replaced" in error
    assert read(mine) == before


@pytest.mark.parametrize("kind", ["predictions", "predictions of a split"])
def test_predictions_are_not_taken_for_photographs(commands, tmp_path, kind):
    made = tmp_path / "photos"
    outputs.claim(made, outputs.Kind(kind))
    (made / "overlay").mkdir()
    (made / "overlay" / "a.png").write_bytes(tiny_png())
    prepared = ["data_prep.image_folder", "--name=x", f"--images={made}"]
    for arguments in (commands.arguments("predict", tmp_path / "out"), prepared):
        error = read_error(call(*arguments))
        assert f"{made} is a folder of {kind} of this package: expected images of a camera" in error


def test_a_report_goes_into_no_folder_of_a_user(saved_run, tmp_path, monkeypatch):
    from alp_jax.report import writing

    monkeypatch.setattr(writing, "read_runs", lambda _: [object()])
    before = fill(tmp_path)
    with pytest.raises(UserError, match="is no folder of a report of this package"):
        writing.write_report({"run": saved_run}, tmp_path, title="", split="train")
    assert read(tmp_path) == before


def test_a_comparison_goes_into_no_folder_of_a_user(tmp_path):
    from alp_jax.study import comparison

    before = fill(tmp_path)
    with pytest.raises(UserError, match="is no folder of a comparison of this package"):
        comparison.save(None, tmp_path, "")
    assert read(tmp_path) == before


def test_drawn_folders_are_written_together_or_not_at_all(tmp_path):
    from data_prep.toy_cities import folders

    (tmp_path / "target_labelled" / "images").mkdir(parents=True)
    mine = tmp_path / "target_labelled" / "images" / "0001.png"
    mine.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"target_labelled holds 'images', and is no folder of"):
        folders.write_folders(tmp_path, tmp_path / "none", [])
    assert read(tmp_path) == {"target_labelled/images/0001.png": b"mine"}


def test_a_run_of_a_version_without_marks_goes_on(saved_run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / config.FILE_NAME).write_bytes((saved_run / config.FILE_NAME).read_bytes())
    outputs.claim(folder, config.RUN)
    assert (folder / outputs.MARK).read_text() == "a run\n"


def test_links_and_hard_links_of_the_same_name_are_replaced_and_not_followed(tmp_path):
    mine = tmp_path / "mine.png"
    mine.write_bytes(b"mine")
    os.symlink(mine, tmp_path / "link.png")
    os.link(mine, tmp_path / "hard.png")
    for name in ("link.png", "hard.png"):
        files.write_bytes(tmp_path / name, b"ours", durable=False)
    assert mine.read_bytes() == b"mine"
    assert read(tmp_path) == {"mine.png": b"mine", "link.png": b"ours", "hard.png": b"ours"}


NAMES = st.sampled_from([outputs.MARK, ".hidden", "a", "config.json", "study.json", "b/c", "d/e/f"])
KINDS: dict[str, Callable[[], outputs.Kind]] = {
    "predictions": lambda: outputs.Kind("predictions"),
    "run": lambda: config.RUN,
}


@pytest.mark.parametrize("kind", KINDS)
@hypothesis.given(held=st.dictionaries(NAMES, st.sampled_from([b"", b"a run\n", b"{}", b"\xff"])))
def test_what_is_claimed_is_empty_or_marked(tmp_path_factory, kind, held):
    folder = tmp_path_factory.mktemp("output")
    for name, data in held.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    before, wanted = read(folder), KINDS[kind]()
    is_empty = all(name.startswith(".") for name in held)
    is_marked = held.get(outputs.MARK) == f"{wanted.name}\n".encode()
    try:
        outputs.claim(folder, wanted)
    except UserError:
        assert not is_empty
        assert not is_marked
        assert read(folder) == before
    else:
        assert is_empty or is_marked
        assert read(folder) == before | {outputs.MARK: f"{wanted.name}\n".encode()}
