"""A run remembers its data and its classes; splits, slices and datasets that are not there."""

import json
import os
import pathlib
import re
import shutil

import numpy as np
import pytest

from alp_jax.data import digests, pipeline, prepared, sources
from alp_jax.data.labels import load_label_set
from alp_jax.errors import UserError
from alp_jax.evaluation import evaluator
from alp_jax.workdir import checkpoint, classes, trained_on
from alp_jax.workdir.settings import build_settings
from data_prep.image_folder import COMMAND as IMAGE_FOLDER
from tests import tiny
from tests.commands import ROOT, call, read_error
from tests.data_prep import raw_files as raw
from tests.faults import command
from tests.faults.rights import as_nobody
from tests.refusals import refusal

LABEL_SET = load_label_set("cityscapes_16")
DOMAINS = ("source", "target")


def write_frames(root: pathlib.Path, seeds) -> None:
    for seed in seeds:
        shape = (tiny.HEIGHT, tiny.WIDTH)
        raw.write(root / "frames", {f"{seed}.png": raw.png(raw.rgb(seed, *shape))})
        raw.write(root / "masks", {f"{seed}.png": raw.png(raw.values(seed, raw.ALL_IDS, *shape))})


def prepare(root: pathlib.Path, name: str, *arguments: str, labels: bool = True) -> None:
    labelled = [f"--labels={root / 'masks'}"] if labels else []
    places = [f"--images={root / 'frames'}", f"--data_dir={root / 'datasets'}"]
    flags = ["--workers=1", "--replace", f"--name={name}", *places, *labelled, *arguments]
    assert IMAGE_FOLDER.main(["image_folder", *flags]) == 0


@pytest.fixture
def root(tmp_path):
    """Datasets image_folder/source, /target and /scored of three images each."""
    write_frames(tmp_path, range(3))
    prepare(tmp_path, "source")
    prepare(tmp_path, "target", labels=False)
    prepare(tmp_path, "scored", "--split=validation")
    return tmp_path


def get_config(root):
    config = tiny.get_config(root / "datasets")
    with config.unlocked():
        config.data.source = "image_folder/source"
        config.data.target = "image_folder/target"
        config.evaluation.dataset = "image_folder/scored"
        config.evaluation.split = "validation"
    return config


@pytest.fixture
def settings(root):
    return build_settings(get_config(root))


@pytest.fixture
def workdir(root, settings):
    """A run that was saved at step 4."""
    folder = root / "run"
    folder.mkdir()
    trained_on.save(settings, folder, DOMAINS)
    (folder / checkpoint.FOLDER / "4").mkdir(parents=True)
    return folder


def check(settings, workdir, **options):
    return refusal(lambda: trained_on.check(settings, workdir, DOMAINS, **options))


def noted(workdir):
    return json.loads((workdir / trained_on.FILE_NAME).read_text())


# Changes.


def add_images(root):
    write_frames(root, [7])
    prepare(root, "source")


def correct_labels(root):
    raw.write(root / "masks", {"1.png": (root / "masks/2.png").read_bytes()})
    prepare(root, "source")


def change_the_map(root):
    (root / "map.json").write_text(json.dumps({"default": "road", "7": "sky"}))
    prepare(root, "source", f"--label_map={root / 'map.json'}")


def change_the_target(root):
    raw.write(root / "frames", {"1.png": raw.png(raw.rgb(77, tiny.HEIGHT, 2 * tiny.WIDTH))})
    prepare(root, "target", labels=False)


def test_a_start_that_was_trained_on_other_data_is_a_warning(root, workdir, caplog):
    data_dir = str(root / "datasets")
    trained_on.warn_of_start(workdir, data_dir)
    assert not caplog.text
    correct_labels(root)
    trained_on.warn_of_start(workdir, data_dir)
    assert f"since the run in {workdir} read it (as many images, but other content)" in caplog.text
    assert "the weights of that run know it as it was; train it again" in caplog.text


def test_labels_that_lose_most_pixels_are_a_warning_and_one_class_is_none(root, caplog):
    names = {"7": "lane", "8": "lane", "11": "house", "default": "car"}
    (root / "map.json").write_text(json.dumps(names))
    prepare(root, "own", f"--label_map={root / 'map.json'}")

    def open_with(*classes: str, required: bool = True):
        (root / "set.yaml").write_text(f"classes: [{', '.join(classes)}]\n")
        label_set = load_label_set(root / "set.yaml")
        return sources.open_source(
            str(root / "datasets"),
            "image_folder/own",
            "train",
            label_set=label_set,
            labels_required=required,
        )

    open_with("lane", "house", "car")
    assert "are ignored" not in caplog.text
    open_with("lane", "house", "tree")
    assert "% of the pixels that image_folder/own:train labels are ignored, as" in caplog.text
    assert "has only lane, house of its classes" in caplog.text
    message = refusal(lambda: open_with("lane", "tree"))
    assert message is not None
    assert "has only lane of its classes: name more of them in config.data.label_set" in message
    assert refusal(lambda: open_with("lane", "tree", required=False)) is None
    assert all(" has only  of " not in record.message for record in caplog.records)


CHANGES = {
    "images added": (add_images, "source", "3 images then, 4 now"),
    "labels corrected": (correct_labels, "source", "as many images, but other content"),
    "label map": (change_the_map, "source", "the classes of its label values"),
    "target": (change_the_target, "target", "as many images, but other content"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_does_not_continue_on_other_data(root, settings, workdir, caplog, change):
    make, domain, words = CHANGES[change]
    assert check(settings, workdir) is None
    before = noted(workdir)
    make(root)
    error = check(settings, workdir)
    assert f"config.data.{domain}, image_folder/{domain}:train, was prepared anew since" in error
    assert words in error
    assert "--accept_changed_data" in error
    assert noted(workdir) == before
    assert check(settings, workdir, accept_changes=True) is None
    assert f"{words}" in caplog.text
    trained_on.save(settings, workdir, DOMAINS)
    (accepted,) = noted(workdir)["accepted_changes"]
    assert accepted["step"] == 4
    assert words in accepted["change"]
    assert accepted["before"] == before["datasets"][domain]
    assert check(settings, workdir) is None, "it is the run's data now"
    trained_on.save(settings, workdir, DOMAINS)
    assert noted(workdir)["accepted_changes"] == [accepted]


def prepare_again(root):
    prepare(root, "source")


def add_a_split(root):
    prepare(root, "source", "--split=validation")


def move_the_datasets(root):
    shutil.move(root / "datasets", root / "elsewhere")
    shutil.copytree(root / "elsewhere", root / "datasets")


def forget_digests(root):
    for path in root.glob(f"datasets/*/*/1.0.0/{digests.FILE_NAME}"):
        path.unlink()


def damage_digests(root):
    for path in root.glob(f"datasets/*/*/1.0.0/{digests.FILE_NAME}"):
        path.write_text("[")


def forget_samples(root):
    """Turns the digests into those of an earlier version."""
    for path in root.glob(f"datasets/*/*/1.0.0/{digests.FILE_NAME}"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({split: found["digest"] for split, found in content.items()}))


@pytest.mark.parametrize("change", [prepare_again, add_a_split, move_the_datasets, forget_samples])
def test_what_changes_no_record_of_the_run_is_no_change(root, settings, workdir, change):
    change(root)
    assert check(settings, workdir) is None


@pytest.mark.parametrize("lose", [forget_digests, damage_digests])
def test_lost_digests_are_said_and_not_forgotten(root, settings, workdir, lose):
    before = noted(workdir)["datasets"]
    lose(root)
    error = check(settings, workdir)
    assert "config.data.source, image_folder/source:train, lost its digests since the run" in error
    assert "(digests.json is missing or damaged, so that other content would not be" in error
    assert check(settings, workdir, accept_changes=True) is None
    trained_on.save(settings, workdir, DOMAINS)
    assert noted(workdir)["datasets"] == before
    assert len(noted(workdir)["accepted_changes"]) == 3
    correct_labels(root)
    assert "was prepared anew since" in check(settings, workdir)


def test_digests_of_other_data_are_not_kept(root, settings, workdir):
    add_images(root)
    forget_digests(root)
    assert "was prepared anew since" in check(settings, workdir)
    assert check(settings, workdir, accept_changes=True) is None
    trained_on.save(settings, workdir, DOMAINS)
    now = noted(workdir)["datasets"]
    assert now["source"]["digest"] == "", "it is of the data before"
    assert now["target"]["digest"]


def test_a_file_of_records_that_was_replaced_is_a_change(root, settings, workdir):
    write_frames(root, [11, 12, 13])
    for seed in range(3):
        shutil.move(root / f"frames/1{seed + 1}.png", root / f"frames/{seed}.png")
        shutil.move(root / f"masks/1{seed + 1}.png", root / f"masks/{seed}.png")
    prepare(root, "other")
    (other,) = root.glob("datasets/image_folder/other/1.0.0/*-train.array_record*")
    (ours,) = root.glob("datasets/image_folder/source/1.0.0/*-train.array_record*")
    shutil.copy(other, ours)
    assert "as many images, but other content" in check(settings, workdir)
    assert check(settings, workdir, accept_changes=True) is None
    trained_on.save(settings, workdir, DOMAINS)
    assert check(settings, workdir) is None


def test_data_of_an_earlier_version_are_compared_by_size(root, settings, tmp_path):
    forget_digests(root)
    run = tmp_path / "early"
    run.mkdir()
    trained_on.save(settings, run, DOMAINS)
    (run / checkpoint.FOLDER / "4").mkdir(parents=True)
    assert noted(run)["datasets"]["source"]["digest"] == ""
    prepare(root, "source")
    assert check(settings, run) is None, "the same records, and now with digests"
    change_the_target(root)
    assert "other content" in check(settings, run)


def test_a_run_of_an_earlier_version_is_noted_as_it_is(root, settings, workdir, caplog):
    (workdir / trained_on.FILE_NAME).unlink()
    add_images(root)
    with caplog.at_level("INFO", logger="alp_jax"):
        assert check(settings, workdir) is None
    assert "did not note its data" in caplog.text
    trained_on.save(settings, workdir, DOMAINS)
    assert noted(workdir)["datasets"]["source"]["images"] == 4
    add_images_again = 5
    write_frames(root, [8])
    prepare(root, "source")
    assert f"4 images then, {add_images_again} now" in check(settings, workdir)


def test_a_run_without_a_checkpoint_takes_the_data_as_they_are(root, settings, workdir):
    (workdir / checkpoint.FOLDER / "4").rmdir()
    add_images(root)
    assert check(settings, workdir) is None
    trained_on.save(settings, workdir, DOMAINS)
    assert noted(workdir)["datasets"]["source"]["images"] == 4
    assert noted(workdir)["accepted_changes"] == []


def test_evaluation_on_other_data_is_a_warning(root, settings, workdir, caplog):
    write_frames(root, [9])
    prepare(root, "scored", "--split=validation")
    assert check(settings, workdir) is None
    assert (
        "config.evaluation.dataset, image_folder/scored:validation, was prepared an" in caplog.text
    )
    caplog.clear()
    data_dir = str(root / "datasets")
    for name, split, warns in (
        ("image_folder/scored", "validation", True),
        ("image_folder/source", "train", False),
        ("image_folder/nowhere", "train", False),
    ):
        caplog.clear()
        trained_on.warn_if_changed(workdir, data_dir, name, split)
        assert ("its scores are not comparable" in caplog.text) == warns


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"datasets": 1, "accepted_changes": []}'])
def test_a_damaged_note_is_one_sentence(settings, workdir, text):
    (workdir / trained_on.FILE_NAME).write_text(text)
    assert f"{workdir / trained_on.FILE_NAME} cannot be read" in check(settings, workdir)


def test_a_note_that_lacks_a_number_is_one_sentence(settings, workdir):
    content = noted(workdir)
    del content["datasets"]["source"]["images"]
    (workdir / trained_on.FILE_NAME).write_text(json.dumps(content))
    assert "cannot be read" in check(settings, workdir)


def test_the_commands_notice(data_dir, saved_run, tmp_path):
    """Training refuses, evaluation warns, and nothing is saved."""
    shutil.copytree(data_dir, tmp_path / "datasets")
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    config = tiny.get_config(tmp_path / "datasets", "source_only")
    trained_on.save(build_settings(config), run, ("source",))
    for name, split in (("source", "train"), ("target", "validation")):
        path = tmp_path / f"datasets/tiny/{name}/1.0.0/{prepared.INFO_FILE}"
        content = json.loads(path.read_text())
        (info,) = [info for info in content["splits"] if info["name"] == split]
        info["numBytes"] = str(int(info["numBytes"]) + 1)
        path.write_text(json.dumps(content))
    before = raw.listing(run)
    done = call(
        "alp_jax.main",
        f"{command.write_config(tmp_path, tmp_path / 'datasets')}:source_only",
        f"--workdir={run}",
        "--config.num_steps=8",
    )
    error = read_error(done)
    assert "config.data.source, tiny/source:train, was prepared anew since the run in" in error
    assert [e for e in raw.listing(run) if e[0] != str(run)] == [
        e for e in before if e[0] != str(run)
    ]


# Classes.


@pytest.fixture
def own_classes(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("classes: [road, car]\n")
    return path


def test_the_copy_of_the_classes_is_missed(tmp_path, own_classes):
    workdir = tmp_path / "run"
    workdir.mkdir()
    label_set = classes.load_to_train(workdir, str(own_classes))
    classes.save(label_set, workdir, str(own_classes))
    (workdir / checkpoint.FOLDER / "4").mkdir(parents=True)
    assert classes.load(workdir, str(own_classes)).names == ("road", "car")
    (workdir / classes.FILE_NAME).unlink()
    own_classes.write_text("classes: [car, road]\n")
    assert refusal(lambda: classes.load_to_train(tmp_path, str(own_classes))) is None
    assert "lacks label_set.yaml" in refusal(
        lambda: classes.load_to_train(tmp_path, str(own_classes), has_results=True)
    )
    for load in (classes.load, classes.load_to_train):
        error = refusal(lambda: load(workdir, str(own_classes)))  # noqa: B023
        assert f"{workdir} lacks label_set.yaml, the copy of the classes" in error
        assert f"copy {own_classes} there" in error
        assert load(workdir, "cityscapes_19").num_classes == 19, "a name needs no copy"


# Splits and datasets that are not there.

SLICES = {
    "train[:200]": "'train[:200]' of dataset tiny/source reaches beyond the split: expected at "
    "most what there is, test, train, validation (7, 12, 7 images)",
    "train[200:]": "reaches beyond the split",
    "train[-200:]": "reaches beyond the split",
    "train[12:]": "leaves none of its images",
    "train[:0]": "leaves none of its images",
    "train[5:3]": "leaves none of its images",
    "train[:1%]": "leaves none of its images",
    "train[:x]": "is no split and no slice of one",
    "train[:10%": "is no split and no slice of one",
    "train[1:2:3]": "is no split and no slice of one",
    "train[]": "is no split and no slice of one",
    "train[:-10%%]": "is no split and no slice of one",
    "training": "no split 'training': expected one of test, train, validation (7, 12, 7 images)",
    "": "has no split ''",
    "all": "has no split 'all'",
    "train[:2]+val": "has no split 'val' (of 'train[:2]+val')",
}


@pytest.mark.parametrize("split", SLICES)
def test_a_wrong_slice_says_what_there_is(data_dir, split):
    fields = sources.Fields("config.data.source", "config.data.source_split")
    error = refusal(
        lambda: sources.open_source(
            str(data_dir), "tiny/source", split, label_set=LABEL_SET, fields=fields
        )
    )
    assert SLICES[split] in error
    assert "12" in error
    assert error.endswith("; give another config.data.source_split.")
    assert not re.search("delete|remove|prepare", error)


@pytest.mark.parametrize(
    ("split", "parts"),
    [
        ("train", [("train", 0, 12)]), ("train[:50%]", [("train", 0, 6)]),
        ("train[-3:]", [("train", 9, 12)]),
        ("train[2:4]+test[6:]", [("train", 2, 4), ("test", 6, 7)]),
    ],
)  # fmt: skip
def test_parts_of_splits(data_dir, split, parts):
    builder = prepared.open_builder(str(data_dir), "tiny/source")
    assert prepared.resolve_split(builder, "tiny/source", split) == parts
    source = sources.open_source(str(data_dir), "tiny/source", split, label_set=LABEL_SET)
    assert len(source) == sum(end - start for _, start, end in parts)


@pytest.fixture
def shelf(data_dir, tmp_path, monkeypatch):
    """A folder with datasets/tiny/source, and a sized one; it is the current folder."""
    shutil.copytree(data_dir / "tiny/source", tmp_path / "datasets/tiny/source")
    shutil.copytree(data_dir / "tiny/source", tmp_path / "datasets/city/labelled_512x1024")
    (tmp_path / "datasets/city/labelled_512x1024/incomplete.XY_1.0.0").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("data_dir_", "name", "words"),
    [
        ("datasets", "city/labelled", "did you mean city/labelled_512x1024?"),
        ("datasets", "tiny/sources", "did you mean tiny/source?"),
        ("datasets", "source", "did you mean tiny/source?"),
        ("datasets", "other/x", "datasets holds city/labelled_512x1024, tiny/source; name another"),
        ("datasets", "tiny/source", None),
        ("nowhere", "tiny/source", "there is no folder nowhere"),
        (".", "tiny/source", ". holds no dataset"),
    ],
)
def test_a_dataset_that_is_not_there(shelf, data_dir_, name, words):
    field = "config.evaluation.dataset"
    found = refusal(lambda: prepared.open_builder(data_dir_, name, field=field))
    if words is None:
        assert found is None
        return
    assert words in found
    assert f"which {field} names" in found
    assert f"config.data.data_dir is relative to the current folder, {shelf}" in found
    absolute = refusal(lambda: prepared.open_builder(str(shelf / data_dir_), name))
    assert "relative" not in absolute


def test_each_field_is_named(settings, root):
    for field, changed in (
        ("config.data.source", {"source": "image_folder/sauce"}),
        ("config.data.target", {"target": "image_folder/tarot"}),
    ):
        data = type(settings.data)(**{**vars(settings.data), **changed})
        error = refusal(
            lambda: pipeline.create_train_batches(
                data,  # noqa: B023
                seed=0,
                label_set=LABEL_SET,
                domains=DOMAINS,
            )
        )
        assert f"which {field} names" in error
    for words, given in (
        ("which config.evaluation.dataset names", {"dataset": "x/y", "split": "test"}),
        ("give another config.evaluation.split or --split", {"split": "train[:9]"}),
    ):
        where = {"dataset": "image_folder/source", "batch_size": 1, "label_set": LABEL_SET, **given}
        assert words in refusal(lambda: pipeline.create_eval_batches(settings.data, **where))  # noqa: B023


# Damage, and nothing but damage, is called so.


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_files_of_records_that_are_gone(shelf, state):
    (file,) = (shelf / "datasets/tiny/source/1.0.0").glob("*train*array_record*")
    file.unlink()
    if state == "empty":
        file.touch()
    error = refusal(
        lambda: sources.open_source("datasets", "tiny/source", "train", label_set=LABEL_SET)
    )
    assert f"tiny/source:train is damaged, as {file.relative_to(shelf)} is {state}" in error
    assert "--replace" in error
    assert sources.open_source("datasets", "tiny/source", "test", label_set=LABEL_SET)


@pytest.mark.skipif(os.getuid() != 0, reason="takes rights away from another user")
def test_a_dataset_that_may_not_be_read_is_not_called_damaged(shelf):
    version = shelf / "datasets/tiny/source/1.0.0"
    (version / prepared.INFO_FILE).chmod(0o000)
    with as_nobody(shelf):
        error = refusal(lambda: prepared.open_builder("datasets", "tiny/source"))
    assert "cannot be read (Permission denied)" in error
    assert "corrupt" not in error


@pytest.mark.skipif(os.getuid() != 0, reason="takes rights away from another user")
@pytest.mark.parametrize("closed", ["", "tiny", "tiny/source", "tiny/source/1.0.0"])
def test_a_dataset_that_may_not_be_entered_is_not_called_missing(shelf, closed):
    (shelf / "datasets" / closed).chmod(0o000)
    with as_nobody(shelf):
        error = refusal(lambda: prepared.open_builder("datasets", "tiny/source"))
    assert "datasets/tiny/source cannot be opened (Permission denied)" in error


def test_no_message_of_ours_advises_to_delete():
    """Damage that is established names the file, and --replace is there for datasets."""
    found = []
    for path in [*ROOT.glob("alp_jax/**/*.py"), *ROOT.glob("data_prep/**/*.py")]:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if re.search(r"\bdelete\b", line):
                found.append(f"{path}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


def test_labelled_pixels_are_counted_as_batches_are_made(settings, root):
    batches = pipeline.create_train_batches(
        settings.data, seed=0, label_set=LABEL_SET, domains=DOMAINS
    )
    for step in range(3):
        batch, notes = batches[step]
        counted = np.count_nonzero(batch["source"].labels != 255, axis=(1, 2))
        np.testing.assert_array_equal(notes["source"].labelled, counted)
        assert counted.all()
        assert notes["target"].labelled is None


def test_evaluation_warns_before_it_scores(data_dir, saved_run, tmp_path, caplog, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    config = tiny.get_config(data_dir, "source_only")
    trained_on.save(build_settings(config), run, ("source",))
    content = noted(run)
    content["datasets"]["evaluation"]["images"] += 1
    (run / trained_on.FILE_NAME).write_text(json.dumps(content))

    def stop(*_, **__):
        raise UserError("enough")

    monkeypatch.setattr(evaluator, "load_ensemble", stop)
    assert refusal(lambda: evaluator.evaluate_checkpoint(run)) == "enough"
    assert "8 images then, 7 now): its scores are not comparable" in caplog.text
