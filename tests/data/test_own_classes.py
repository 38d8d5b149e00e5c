"""Classes of one's own from files to files: binary masks of 0 and 255, and three classes.

Masks are prepared by the command, read as training reads them, scored, and painted. The examples of
docs/own_data.md are prepared, trained, continued, scored, predicted, exported and reported.
"""

import csv
import dataclasses
import json
import pathlib
import re

import ml_collections
import numpy as np
import pytest
from PIL import Image

import alp_jax
from alp_jax.command import configuration
from alp_jax.data import sources
from alp_jax.data.labels import IGNORE_LABEL, LabelSet, LabelTable, load_label_set
from alp_jax.domain_shift import label_maps
from alp_jax.domain_shift.settings import ShiftDataSettings
from alp_jax.errors import UserError
from alp_jax.evaluation import evaluator, figures, metrics, results
from alp_jax.run import train
from alp_jax.settings.schema import to_config
from alp_jax.study import outputs, plan, runner
from alp_jax.workdir import classes, config
from alp_jax.workdir.settings import build_settings
from data_prep.image_folder import COMMAND
from tests import tiny
from tests.commands import ROOT

SIZE = (tiny.HEIGHT, tiny.WIDTH)
BINARY_MAP = "0: background\n255: crack\n7: ignore\n"
BINARY_SET = """
classes:
  - {name: background, colour: [0, 0, 0]}
  - {name: crack, colour: [255, 0, 0], id: 255}
"""
THREE_MAP = (
    '"#804080": road\n"70,70,70": building\n"#00008e": car\n"#0000e6": bus\ndefault: ignore\n'
)
THREE_COLOURS = [(128, 64, 128), (70, 70, 70), (0, 0, 142), (0, 0, 230), (1, 1, 1)]
THREE_SET = """
classes:
  - {name: ground, colour: [200, 0, 0]}
  - {name: traffic, colour: [0, 200, 0]}
  - {name: things, colour: [0, 0, 200]}
includes:
  ground: [road]
  traffic: [car, bus]
  things: [building]
reports:
  mean_iou_without_things: [ground, traffic]
"""


def prepare(root: pathlib.Path, name: str, masks: list[np.ndarray], text: str, *flags: str) -> None:
    """Writes images and masks of any values or colours, and prepares them by the command."""
    folder = root / name
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number, mask in enumerate(masks):
        image = tiny.make_example(number)["image"]
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    (folder / "map.yaml").write_text(text)
    status = COMMAND.main([
        "", f"--name={name}", f"--images={folder / 'images'}", f"--labels={folder / 'masks'}",
        f"--label_map={folder / 'map.yaml'}", f"--data_dir={root / 'datasets'}", "--workers=1",
        *flags,
    ])  # fmt: skip
    assert status == 0


def draw(seed: int, count: int) -> np.ndarray:
    """Draws indices of [0, count) in blocks: SIZE."""
    blocks = np.random.default_rng(seed).integers(0, count, (4, 6))
    return np.kron(blocks, np.ones((8, 8), int))


def read(root: pathlib.Path, name: str, label_set: LabelSet) -> list[np.ndarray]:
    source = sources.open_source(
        str(root / "datasets"), f"image_folder/{name}", "train", label_set=label_set
    )
    return [source[index]["label"] for index in range(len(source))]


@pytest.fixture
def binary(tmp_path, monkeypatch):
    """Four masks of 0 and 255, in one of them pixels to ignore; and their label set."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cracks.yaml").write_text(BINARY_SET)
    masks = [np.array([0, 255], np.uint8)[draw(seed, 2)] for seed in range(4)]
    masks[3][:5] = 7
    prepare(tmp_path, "walls", masks, BINARY_MAP)
    return tmp_path, masks, load_label_set("cracks.yaml")


def test_binary_masks_are_read_as_two_classes(binary):
    root, masks, label_set = binary
    stored = json.loads((root / "datasets/image_folder/walls/1.0.0/metadata.json").read_text())
    assert stored["label_values"] == {"0": "background", "1": "crack"}
    for label, mask in zip(read(root, "walls", label_set), masks, strict=True):
        expected = np.select([mask == 7, mask == 255], [IGNORE_LABEL, 1], 0)
        np.testing.assert_array_equal(label, expected)
    with pytest.raises(UserError, match="classes background, crack, of which the label set"):
        read(root, "walls", load_label_set("cityscapes_19"))


def test_a_value_or_a_table_that_is_wrong_is_one_sentence(binary):
    root, _, label_set = binary
    table = LabelTable({0: "background", 1: "crack"})
    record = {"name": b"wall", "image": None, "label": np.full((2, 2, 1), 9)}
    source = sources.SegmentationSource([record], "walls:train", label_set, table=table)
    with pytest.raises(
        UserError, match=r"the value 9: expected 0 \(background\), 1 \(crack\), or 255"
    ):
        source[0]
    metadata = root / "datasets/image_folder/walls/1.0.0/metadata.json"
    metadata.write_text(json.dumps({"label_values": {"0": 7}, "ignored_label_values": []}))
    with pytest.raises(UserError, match=r"The description of dataset .* is corrupt .*label_values"):
        read(root, "walls", label_set)


def test_binary_scores_and_pictures(binary, capsys):
    root, masks, label_set = binary
    label = read(root, "walls", label_set)[3]
    confusion = np.asarray(metrics.compute_confusion(np.ones(SIZE, int), label, 2))
    cracks, valid = int((masks[3] == 255).sum()), int((masks[3] != 7).sum())
    assert confusion.tolist() == [[0, valid - cracks], [0, cracks]]
    summary = metrics.summarise(confusion, label_set)
    assert summary["iou_per_class"] == {"background": 0.0, "crack": cracks / valid}
    assert [key for key in summary if key.startswith("mean_iou")] == ["mean_iou"]
    results.print_scores({**summary, "dataset": "walls", "split": "train", "num_images": 1,
                          "step": 1})  # fmt: skip
    assert "crack" in capsys.readouterr().out
    # The background is black, so pixels to ignore are grey.
    red = np.select([label == 1, label == IGNORE_LABEL], [255, 128], 0)
    np.testing.assert_array_equal(label_set.colourise(label)[..., 0], red)
    handles = figures.class_handles(label_set, not_evaluated=True)
    assert [handle.get_label() for handle in handles] == ["background", "crack", "not evaluated"]
    assert handles[-1].get_facecolor()[:3] == pytest.approx([128 / 255] * 3)
    sheet = figures.draw_sheet([{"label": label_set.colourise(label)}], handles)
    assert sheet.get_figheight() < 0.3 + 3.2 * SIZE[0] / SIZE[1] + 0.5  # No band above the legend.
    evaluator.save_prediction(root / "masks", "wall", np.eye(5, dtype=np.uint8), label_set)
    written = np.asarray(Image.open(root / "masks" / "wall.png"))
    np.testing.assert_array_equal(written, 255 * np.eye(5))


@pytest.fixture
def three(tmp_path, monkeypatch):
    """Masks of colours of five kinds, read as three classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "three.yaml").write_text(THREE_SET)
    drawn = [draw(seed, 5) for seed in range(3)]
    prepare(tmp_path, "street", [np.array(THREE_COLOURS, np.uint8)[d] for d in drawn], THREE_MAP)
    return tmp_path, drawn, load_label_set("three.yaml")


def test_colours_become_three_classes_many_to_one(three):
    root, drawn, label_set = three
    for label, kinds in zip(read(root, "street", label_set), drawn, strict=True):
        np.testing.assert_array_equal(label, np.array([0, 2, 1, 1, IGNORE_LABEL])[kinds])


def test_the_same_dataset_serves_other_label_sets(three):
    root, drawn, _ = three
    cityscapes = load_label_set("cityscapes_19")
    road, building, car, bus = (
        cityscapes.names.index(n) for n in ("road", "building", "car", "bus")
    )
    for label, kinds in zip(read(root, "street", cityscapes), drawn, strict=True):
        np.testing.assert_array_equal(
            label, np.array([road, building, car, bus, IGNORE_LABEL])[kinds]
        )


# The examples of docs/own_data.md, from folders to tables.


@dataclasses.dataclass(frozen=True)
class Example:
    """An example as a user has it after all commands.

    Attributes:
      root: the user's folder.
      workdir: of the run.
      label_set: the classes.
    """

    root: pathlib.Path
    workdir: pathlib.Path
    label_set: LabelSet


def read_yaml(heading: str) -> list[str]:
    """Reads the YAML files that the page shows under a heading."""
    page = (ROOT / "docs" / "own_data.md").read_text()
    section = page.partition(f"\n### {heading}\n")[2].partition("\n### ")[0]
    return re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)


def write_folder(folder: pathlib.Path, masks: list[np.ndarray] | None, count: int = 3) -> None:
    for number in range(count):
        for kind, arrays in (("images", None), ("labels", masks)):
            if kind == "images" or arrays:
                array = arrays[number] if arrays else tiny.make_example(number)["image"]
                path = folder / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)


def run_prepare(*arguments: str) -> None:
    assert COMMAND.main(["", "--workers=1", *arguments]) == 0


def write_config(root: pathlib.Path, **fields: object) -> None:
    """Writes own.py: two steps of the smallest network, with fields whose "." is "__"."""
    changed = {name.replace("__", "."): value for name, value in fields.items()}
    changed |= {"num_steps": 2, "start_variant": "", "evaluation.reported_split": ""}
    (root / "own.py").write_text(
        "import pathlib\nfrom tests import tiny\n\n"
        "def get_config(variant):\n"
        f"    config = tiny.get_config(pathlib.Path({str(root / 'datasets')!r}), variant)\n"
        f"    config.update_from_flattened_dict({changed!r})\n"
        "    return config\n"
    )


def train_first_step(example: Example, method: str) -> ml_collections.ConfigDict:
    """Trains one step of two, and removes the file of the classes, of which the run has a copy."""
    run_config = configuration.read_config("own.py", method, ["--config.num_steps=1"])
    train.train_and_evaluate(run_config, example.workdir)
    (example.root / run_config.data.label_set).unlink()
    run_config.num_steps = 2
    return run_config


@pytest.fixture(scope="module")
def three_example(tmp_path_factory):
    """Cityscapes label ids as three classes, scored."""
    root = tmp_path_factory.mktemp("three")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name, text in zip(
            ("map.yaml", "my_classes.yaml"), read_yaml("Three classes"), strict=True
        ):
            (root / name).write_text(text)
        masks = [tiny.make_example(number)["label"][..., 0] for number in range(3)]
        for name, split in (("source", "train"), ("target_labelled", "validation")):
            write_folder(root / "own" / name, masks)
            run_prepare(
                f"--name={name}_3",
                f"--split={split}",
                f"--images=own/{name}/images",
                f"--labels=own/{name}/labels",
                "--label_map=map.yaml",
            )
        write_config(
            root,
            data__label_set="my_classes.yaml",
            data__source="image_folder/source_3",
            evaluation__dataset="image_folder/target_labelled_3",
            evaluation__split="validation",
        )
        study = root / "study"
        planned = plan.create_plan(
            study, "own.py", [], methods=["source_only"], num_seeds=1, sweep=None
        )
        about = outputs.describe(planned, "own.py", [], "python -m alp_jax.study")
        example = Example(root, planned.runs[0].workdir, load_label_set("my_classes.yaml"))
        train_first_step(example, "source_only")
        runner.run(planned, about, save=lambda found: outputs.save(found, study))
        outputs.write_report(study)
        return example


@pytest.fixture(scope="module")
def binary_example(tmp_path_factory):
    """Masks of 0 and 255, adapted to a folder without labels."""
    root = tmp_path_factory.mktemp("binary")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        heading = "Two classes: masks of 0 and 255"
        for name, text in zip(("masks.yaml", "cracks.yaml"), read_yaml(heading), strict=True):
            (root / name).write_text(text)
        write_folder(root / "walls", [np.array([0, 255], np.uint8)[draw(n, 2)] for n in range(3)])
        write_folder(root / "my_walls", None)
        run_prepare("--name=walls", "--images=walls/images", "--labels=walls/labels",
                    "--label_map=masks.yaml")  # fmt: skip
        run_prepare("--name=my_walls", "--images=my_walls/images")
        write_config(
            root,
            data__label_set="cracks.yaml",
            data__source="image_folder/walls",
            data__target="image_folder/my_walls",
            evaluation__dataset="image_folder/my_walls",
            evaluation__split="train",
        )
        example = Example(root, root / "run", load_label_set("cracks.yaml"))
        train.train_and_evaluate(train_first_step(example, "alp_gi"), example.workdir)
        return example


def read_scores(example: Example, step: int) -> dict:
    return json.loads((example.workdir / "evaluation" / f"step_{step}.json").read_text())


@pytest.mark.parametrize("name", ["three_example", "binary_example"])
def test_a_run_continues_without_the_file_of_its_classes(name, request):
    example = request.getfixturevalue(name)
    lines = (example.workdir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    label_set = config.load(example.workdir).data.label_set
    assert not (example.root / label_set).exists()
    kept = classes.load(example.workdir, label_set)
    assert (kept.classes, kept.reports) == (example.label_set.classes, example.label_set.reports)


def test_scores_of_three_classes_have_their_names_and_their_report(three_example):
    names = ["ground", "people", "surroundings"]
    labels = [tiny.make_example(number)["label"] for number in range(3)]
    for step in (0, 1, 2):
        summary = read_scores(three_example, step)
        assert list(summary["iou_per_class"]) == names
        assert summary["num_pixels"] == sum(int((label != 23).sum()) for label in labels)
        assert summary["mean_iou"] == pytest.approx(
            np.mean(list(summary["iou_per_class"].values()))
        )
        assert summary["mean_iou_objects"] == summary["iou_per_class"]["people"]
        means = {"mean_iou": "mean IoU", "mean_iou_objects": "mean IoU-objects"}
        assert metrics.name_means(summary) == means
    confusion = np.load(three_example.workdir / "evaluation" / "step_2_confusion.npy")
    expected = [np.isin(labels, ids).sum() for ids in ([7, 8], [24, 25])]
    assert confusion.sum(axis=1)[:2].tolist() == expected
    result = alp_jax.evaluate_checkpoint(three_example.workdir)
    assert result.summary == read_scores(three_example, 2)
    painted = {tuple(colour) for panel in result.panels
               for colour in panel.columns(result.label_set)["label"].reshape(-1, 3)}  # fmt: skip
    assert painted == {*(tuple(c.colour) for c in three_example.label_set.classes), (0, 0, 0)}


def test_tables_and_report_of_three_classes(three_example):
    study = three_example.root / "study"
    heads, _, row = (study / "study.md").read_text().partition("| method")[2].splitlines()[:3]
    assert [cell.strip() for cell in heads.split("|")[2:-1]] == [
        "mIoU", "mIoU-objects", "ground", "people", "surroundings",
    ]  # fmt: skip
    rows = list(csv.DictReader((study / "study.csv").read_text().splitlines()))
    scored = read_scores(three_example, 2)["iou_per_class"]
    assert float(rows[0]["people"]) == pytest.approx(100 * scored["people"], abs=1e-4)
    assert f"{100 * scored['ground']:.1f}" in row
    page = (study / "report" / "report.html").read_text()
    for name in ("ground", "people", "surroundings", "mean IoU-objects"):
        assert f"{name}</th>" in page
    assert "sidewalk" not in page
    assert (study / "report" / "confusion_source_only.png").exists()


def test_predictions_and_export_of_three_classes(three_example, tmp_path):
    segmenter = alp_jax.load_segmenter(three_example.workdir)
    assert segmenter.label_set.classes == three_example.label_set.classes
    output = tmp_path / "predictions"
    alp_jax.predict_to_folder(segmenter, three_example.root / "own/source/images", output)
    found = json.loads((output / "predictions.json").read_text())
    assert found["label_ids"] == {"0": "ground", "1": "people", "2": "surroundings"}
    ids = np.asarray(Image.open(output / "label_ids" / "0.png"))
    colours = np.array([c.colour for c in three_example.label_set.classes])
    np.testing.assert_array_equal(np.asarray(Image.open(output / "colour" / "0.png")), colours[ids])
    assert (output / "legend.png").exists()
    alp_jax.export_segmenter(segmenter, tmp_path / "exported")
    described = json.loads((tmp_path / "exported" / "segmenter.json").read_text())
    assert [c["name"] for c in described["classes"]] == ["ground", "people", "surroundings"]
    assert described["classes"][1] == {"name": "people", "label_id": 1, "colour": [220, 20, 60]}


def test_predictions_and_export_are_masks_again(binary_example, tmp_path):
    segmenter = alp_jax.load_segmenter(binary_example.workdir)
    output = tmp_path / "predictions"
    images = binary_example.root / "my_walls" / "images"
    alp_jax.predict_to_folder(segmenter, images, output, with_probabilities=True)
    found = json.loads((output / "predictions.json").read_text())
    assert found["label_ids"] == {"0": "background", "255": "crack"}
    ids = np.asarray(Image.open(output / "label_ids" / "0.png"))
    assert set(np.unique(ids)) <= {0, 255}
    painted = np.asarray(Image.open(output / "colour" / "0.png"))
    np.testing.assert_array_equal(painted[ids == 255], [[255, 0, 0]] * (ids == 255).sum())
    np.testing.assert_array_equal(painted[ids == 0], [[64, 64, 64]] * (ids == 0).sum())
    with np.load(output / "probabilities" / "0.npz") as held:
        assert held["names"].tolist() == ["background", "crack"]
        assert held["label_ids"].tolist() == [0, 255]
    assert (output / "legend.png").exists()
    alp_jax.export_segmenter(segmenter, tmp_path / "exported")
    described = json.loads((tmp_path / "exported" / "segmenter.json").read_text())
    assert described["classes"][1] == {"name": "crack", "label_id": 255, "colour": [255, 0, 0]}


def test_binary_scores_where_there_are_labels_and_criteria_where_there_are_none(binary_example):
    without = read_scores(binary_example, 2)
    assert without["mean_iou"] is None
    assert without["iou_per_class"] == {"background": None, "crack": None}
    assert 0 < without["mean_entropy"] <= 1
    run_config = to_config(config.load(binary_example.workdir))
    with run_config.unlocked():
        run_config.evaluation.dataset = "image_folder/walls"
    summary = alp_jax.evaluate_checkpoint(binary_example.workdir, run_config).summary
    assert list(summary["iou_per_class"]) == ["background", "crack"]
    assert summary["num_pixels"] == 3 * tiny.HEIGHT * tiny.WIDTH
    assert 0 <= summary["mean_iou"] <= 1


def test_label_maps_of_both_domains_have_the_users_classes(three_example):
    data = ShiftDataSettings(
        data_dir=str(three_example.root / "datasets"),
        source="image_folder/source_3",
        target="image_folder/target_labelled_3",
        target_split="validation",
        target_validation="",
    )
    domains = label_maps.open_domains(
        data, seed=0, num_validation=1, label_set=three_example.label_set
    )
    found = label_maps.read_validation_maps(domains, SIZE)
    assert set(np.unique(found)) == {0, 1, 2, IGNORE_LABEL}


# A run keeps its classes.


def test_a_changed_file_does_not_continue_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workdir = tmp_path / "run"
    workdir.mkdir()
    (tmp_path / "mine.yaml").write_text("classes: [a, b]")
    started = classes.load_to_train(workdir, "mine.yaml")
    classes.save(started, workdir, "mine.yaml")
    assert classes.load_to_train(workdir, "mine.yaml") == started
    (tmp_path / "mine.yaml").write_text("classes: [b, a]")
    with pytest.raises(UserError, match=r"mine.yaml was changed since the run in .* was started"):
        classes.load_to_train(workdir, "mine.yaml")
    assert classes.load(workdir, "mine.yaml") == started
    (tmp_path / "mine.yaml").unlink()
    assert classes.load_to_train(workdir, "mine.yaml") == started
    (workdir / "label_set.yaml").write_text("classes: [a")
    with pytest.raises(UserError, match=r"label_set.yaml is not YAML"):
        classes.load(workdir, "mine.yaml")


def test_a_label_set_of_the_package_is_not_copied(tmp_path):
    name = "cityscapes_13"
    classes.save(load_label_set(name), tmp_path, name)
    assert list(tmp_path.iterdir()) == []
    assert classes.load(tmp_path, name) is load_label_set(name)


def test_weights_of_other_classes_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("classes: [a, b]")
    run_config = tiny.get_config(tmp_path, "source_only")
    saved = build_settings(run_config)
    run_config.data.label_set = "mine.yaml"
    settings = build_settings(run_config)
    config.check_same_network(settings, saved, tmp_path, parts=["backbone"])
    message = (
        r"number 1 is 'road' there and 'a' in config.data.label_set; give --config.init_heads=new"
    )
    with pytest.raises(UserError, match=message):
        config.check_same_network(settings, saved, tmp_path, parts=["backbone", "classifier"])
