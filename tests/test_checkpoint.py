"""Checkpoints by themselves: what is whole, what is damaged, and what a save that fails leaves."""

import json
import pathlib
import random
import shutil

import jax
import numpy as np
import pytest

from alp_jax.errors import UserError
from alp_jax.objective import state
from alp_jax.workdir import checkpoint, manifest, scores
from tests.faults import disks


def create_state(seed: int) -> state.TrainState:
    """As large as a state of the tiny network, and of its shape."""
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> jax.Array:
        return jax.numpy.asarray(rng.normal(size=shape), "float32")

    segmenter = state.SegmenterState(
        {"backbone": {"kernel": array(3, 3, 8, 16)}, "classifier": {"bias": array(16)}},
        {"mean": array(16)},
        (array(16), {"momentum": array(3, 3, 8, 16)}),
    )
    discriminator = state.DiscriminatorState({"main": array(8, 8)}, {"nu": array(8, 8)})
    return state.TrainState(jax.numpy.asarray(seed), segmenter, discriminator)


def save(workdir: pathlib.Path, *steps: int, keep_last: int = 9) -> pathlib.Path:
    with checkpoint.Checkpoints(workdir, keep_last=keep_last) as checkpoints:
        for step in steps:
            checkpoints.save(step, create_state(step))
            checkpoints.ensure_saved(step)
    return workdir / "checkpoints"


def write_score(workdir: pathlib.Path, step: int, mean_iou: float | None) -> None:
    path = scores.summary_path(workdir, step)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"mean_iou": mean_iou}))


def restore(workdir: pathlib.Path, step: int) -> state.TrainState:
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.restore(step, like=create_state(0))


def flip(path: pathlib.Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    """A workdir with one checkpoint, of step 4."""
    workdir = tmp_path_factory.mktemp("whole")
    save(workdir, 4)
    return workdir


def test_a_state_comes_back_in_every_bit(whole):
    jax.tree.map(np.testing.assert_array_equal, restore(whole, 4), create_state(4))


def test_the_manifest_is_that_of_sha256sum(whole):
    lines = (whole / "checkpoints" / "4" / manifest.FILE_NAME).read_text().splitlines()
    named = {line.split("  ", 1)[1] for line in lines}
    files = {path for path in (whole / "checkpoints" / "4").rglob("*") if path.is_file()}
    found = {path.relative_to(whole / "checkpoints" / "4").as_posix() for path in files}
    assert named == found - {manifest.FILE_NAME}
    assert len(named) > 5


def positions(size: int) -> list[int]:
    """The first and last bytes, boundaries of powers of four, and some at random."""
    boundaries = {4**power for power in range(10)} | {size - 4**power for power in range(10)}
    drawn = random.Random(size).sample(range(size), min(size, 6))
    return sorted({p for p in {0, size - 1, size // 2, *boundaries, *drawn} if 0 <= p < size})


def test_any_byte_that_flips_or_is_cut_off_is_found_and_never_loaded(whole, tmp_path):
    """Of every file, the manifest too: first, last and sampled positions, each of the 8 bits."""
    workdir = tmp_path / "damaged"
    shutil.copytree(whole, workdir)
    files = [path for path in (workdir / "checkpoints" / "4").rglob("*") if path.is_file()]
    tried = 0
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        for path in files:
            data = path.read_bytes()
            for position in positions(len(data)):
                flipped = bytearray(data)
                flipped[position] ^= 1 << (position % 8)
                for damaged in (bytes(flipped), data[:position]):
                    path.write_bytes(damaged)
                    with pytest.raises(UserError, match=r"4 is damaged \(.* is (not|missing)"):
                        checkpoints.restore(4, like=create_state(0))
                    tried += 1
            path.unlink()
            with pytest.raises(UserError, match="is missing"):
                checkpoints.resolve("4")
            path.write_bytes(data)
        (workdir / "checkpoints" / "4" / "other").write_bytes(b"")
        with pytest.raises(UserError, match=r"other is not in SHA256SUMS"):
            checkpoints.resolve("4")
        (workdir / "checkpoints" / "4" / "other").unlink()
        assert checkpoints.resolve("latest") == 4
    assert tried > 300


def test_the_one_before_a_damaged_one_is_used_and_said_so(tmp_path, caplog):
    folder = save(tmp_path, 2, 4, 6, 8)
    flip(next((folder / "8").rglob("_METADATA")), 3)
    (folder / "6" / manifest.FILE_NAME).unlink()
    with checkpoint.Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.resolve("latest") == 4
    assert "8 is damaged (_METADATA is not as it was saved): using that of step 4" in caplog.text
    assert "6 is damaged (SHA256SUMS is missing): using that of step 4" in caplog.text
    assert (folder / "8").exists()  # A reader changes nothing.
    with checkpoint.Checkpoints(tmp_path, keep_last=9) as checkpoints:
        assert checkpoints.latest_whole_step() == 4
        checkpoints.save(6, create_state(6))
        checkpoints.ensure_saved(6)
    assert sorted(path.name for path in folder.iterdir()) == [
        "2",
        "4",
        "6",
        "6.damaged",
        "8.damaged",
    ]


def test_no_whole_checkpoint_is_one_sentence(tmp_path):
    folder = save(tmp_path, 2, 4)
    for step in (2, 4):
        flip(folder / str(step) / manifest.FILE_NAME, 70)
    for read_only in (True, False):
        with (
            checkpoint.Checkpoints(tmp_path, read_only=read_only) as checkpoints,
            pytest.raises(UserError, match=r"whole: 4 \(.*\), 2 \(.*\); put back a copy of one"),
        ):
            checkpoints.latest_whole_step()
    assert sorted(path.name for path in folder.iterdir()) == ["2", "4"]


def test_the_best_and_a_numbered_one_are_not_replaced_by_another(tmp_path):
    folder = save(tmp_path, 2, 4)
    write_score(tmp_path, 2, 0.5)
    write_score(tmp_path, 4, 0.4)
    flip(next((folder / "2").rglob("_METADATA")), 3)
    with checkpoint.Checkpoints(tmp_path, read_only=True) as checkpoints:
        for name in ("best", "2"):
            with pytest.raises(
                UserError, match=r"2 is damaged .* or another step; the others are 4"
            ):
                checkpoints.resolve(name)
        assert checkpoints.resolve("latest") == 4


def test_the_latest_and_the_best_are_kept(tmp_path):
    with checkpoint.Checkpoints(tmp_path, keep_last=2) as checkpoints:
        for step, score in {1: 0.1, 2: 0.5, 3: None, 4: 0.3, 5: 0.2}.items():
            checkpoints.save(step, create_state(step))
            checkpoints.ensure_saved(step)
            write_score(tmp_path, step, score)
        assert checkpoints.steps() == [2, 4, 5]
        assert checkpoints.best_step() == 2


def test_scores_that_cannot_be_read_are_one_sentence(tmp_path):
    save(tmp_path, 2)
    write_score(tmp_path, 2, 0.1)
    scores.summary_path(tmp_path, 2).write_text('{"mean')
    with (
        checkpoint.Checkpoints(tmp_path, read_only=True) as checkpoints,
        pytest.raises(UserError, match=r"step_2.json cannot be read .*; remove that file"),
    ):
        checkpoints.best_step()


def test_a_full_disk_keeps_the_older_checkpoint_and_the_next_save_may_succeed(tmp_path, caplog):
    with disks.small(tmp_path, kilobytes=500) as disk:
        with checkpoint.Checkpoints(disk) as checkpoints:
            checkpoints.save(2, create_state(2))
            checkpoints.ensure_saved(2)
            ballast = disk / "ballast"
            disks.fill(ballast)
            checkpoints.save(4, create_state(4))
            with pytest.raises(UserError, match=r"step 4 could not be saved .*No space left"):
                checkpoints.ensure_saved(4)
            assert "No space left on device): the checkpoints before it are kept" in caplog.text
            assert [path.name for path in (disk / "checkpoints").iterdir()] == ["2"]
            assert checkpoints.latest_whole_step() == 2
            ballast.unlink()
            checkpoints.save(6, create_state(6))
            checkpoints.ensure_saved(6)
        assert restore(disk, 6).step == 6
