"""Classes of one's own from files to files: binary masks of 0 and 255, and three classes.

Masks are prepared by the command, read as training reads them, scored, and painted.
"""

import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

import alp_jax
from alp_jax.data import sources
from alp_jax.data.labels import IGNORE_LABEL, LabelSet, LabelTable, load_label_set
from alp_jax.errors import UserError
from alp_jax.evaluation import evaluator, figures, metrics, results
from alp_jax.run import assembly
from alp_jax.workdir import checkpoint, classes, config
from alp_jax.workdir.settings import build_settings
from data_prep.image_folder import COMMAND
from tests import tiny

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


def save_run(root: pathlib.Path, label_set: str, dataset: str) -> pathlib.Path:
    """Writes the workdir of an untrained run."""
    run_config = tiny.get_config(root / "datasets", "source_only")
    with run_config.unlocked():
        run_config.data.label_set = label_set
        run_config.data.source = run_config.evaluation.dataset = dataset
        run_config.evaluation.split = "train"
    settings = build_settings(run_config)
    state = assembly.create_train_state(assembly.create_setup(settings), jax.random.key(0))
    config.save(settings, root / "run")
    classes.save(load_label_set(label_set), root / "run", label_set)
    with checkpoint.Checkpoints(root / "run") as checkpoints:
        checkpoints.save(1, state)
    return root / "run"


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
    np.testing.assert_array_equal(label_set.colourise(label)[..., 0], np.where(label == 1, 255, 0))
    handles = figures.class_handles(label_set, not_evaluated=True)
    assert [handle.get_label() for handle in handles] == ["background", "crack", "not evaluated"]
    evaluator.save_prediction(root / "masks", "wall", np.eye(5, dtype=np.uint8), label_set)
    written = np.asarray(Image.open(root / "masks" / "wall.png"))
    np.testing.assert_array_equal(written, 255 * np.eye(5))


def test_binary_predictions_and_export_are_of_the_users_classes(binary, tmp_path):
    root, _, label_set = binary
    workdir = save_run(root, "cracks.yaml", "image_folder/walls")
    (root / "cracks.yaml").write_text("classes: [other, names]")  # The run keeps its own copy.
    segmenter = alp_jax.load_segmenter(workdir)
    assert segmenter.label_set == label_set
    output = tmp_path / "predictions"
    alp_jax.predict_to_folder(segmenter, root / "walls" / "images", output, with_probabilities=True)
    assert json.loads((output / "predictions.json").read_text())["label_ids"] == {
        "0": "background",
        "255": "crack",
    }
    ids = np.asarray(Image.open(output / "label_ids" / "0.png"))
    assert set(np.unique(ids)) <= {0, 255}
    painted = np.asarray(Image.open(output / "colour" / "0.png"))
    np.testing.assert_array_equal(painted[..., 0], ids)
    assert not painted[..., 1:].any()
    with np.load(output / "probabilities" / "0.npz") as held:
        assert held["names"].tolist() == ["background", "crack"]
        assert held["label_ids"].tolist() == [0, 255]
    alp_jax.export_segmenter(segmenter, tmp_path / "exported")
    described = json.loads((tmp_path / "exported" / "segmenter.json").read_text())
    assert described["classes"][1] == {"name": "crack", "label_id": 255, "colour": [255, 0, 0]}


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


def test_an_evaluation_has_the_users_classes_and_reports(three):
    root, drawn, label_set = three
    workdir = save_run(root, "three.yaml", "image_folder/street")
    result = alp_jax.evaluate_checkpoint(workdir)
    assert result.summary["num_images"] == 3
    assert result.summary["num_pixels"] == sum(int((d != 4).sum()) for d in drawn)
    assert list(result.summary["iou_per_class"]) == ["ground", "traffic", "things"]
    ious = result.summary["iou_per_class"]
    kept = [iou for name, iou in ious.items() if name != "things" and iou is not None]
    assert result.summary["mean_iou_without_things"] == pytest.approx(np.mean(kept))
    assert metrics.name_means(result.summary) == {
        "mean_iou": "mean IoU",
        "mean_iou_without_things": "mean IoU-without things",
    }
    colours = {tuple(c) for panel in result.panels
               for c in panel.columns(label_set)["label"].reshape(-1, 3).tolist()}  # fmt: skip
    assert colours == {(200, 0, 0), (0, 200, 0), (0, 0, 200), (0, 0, 0)}


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
    message = r"class number 1 is 'road' there and 'a' in config.data.label_set; start from"
    with pytest.raises(UserError, match=message):
        config.check_same_network(settings, saved, tmp_path, parts=["backbone", "classifier"])
