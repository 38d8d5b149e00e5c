"""Published weights give the same logits here, and come back as the same bits."""

import functools
import json
import pathlib
import pickle
import re
import sys

import jax
import numpy as np
import pytest
import torch

from alp_jax import models
from alp_jax.command import configuration
from alp_jax.errors import UserError
from alp_jax.models.settings import head
from alp_jax.objective import state
from alp_jax.objective.settings import term
from alp_jax.run import assembly
from alp_jax.settings.compare import flatten
from alp_jax.settings.schema import to_config
from alp_jax.workdir import checkpoint, classes, config, scores
from alp_jax.workdir.settings import build_settings
from configs import default, toy_cities
from data_prep.convert_weights import exporting, importing, trees, weight_files
from data_prep.convert_weights.layouts import AUTO, LAYOUTS, sort_as_published
from data_prep.convert_weights.recognition import PublishedFile
from tests.commands import call, run_module
from tests.data_prep import published_networks as published

# Those of transformers are in test_convert_transformers.py.
DEEPLAB = [name for name, layout in LAYOUTS.items() if layout.kind == "resnet"]
BACKBONES = ("torchvision", "caffe_init")
# The prefix that the file of each layout has.
PREFIX = {"caffe_init": "Scale."}
# What the report says of tensors that are in the file for nothing.
_DEAD = "branches of dilation 18 and 24, which AdaptSegNet's forward pass never reaches"
IGNORED = {
    "torchvision": "2 tensors, fc, the classifier of ImageNet",
    "caffe_init": "8 tensors, layer5, a classifier of 21 other classes",
    "adaptsegnet": f"8 tensors, {_DEAD}",
    "adaptsegnet_single": f"4 tensors, {_DEAD}",
}


def save(path, layout, prefix=None, network=None):
    """Writes a published file; returns its state dict."""
    network = network or published.create(layout)
    prefix = PREFIX.get(layout, "") if prefix is None else prefix
    state_dict = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save(state_dict, path)
    return state_dict


def convert(tmp_path, state_dict, layout=AUTO):
    """Converts a state dict; returns the workdir."""
    torch.save(state_dict, tmp_path / "file.pth")
    importing.import_weights(tmp_path / "file.pth", tmp_path / "workdir", importing.Choices(layout))
    return tmp_path / "workdir"


def draw(shapes):
    """Random arrays, all positive, as variances are."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.uniform(0, 0.2, x.shape).astype(np.float32), shapes)


def restore(workdir):
    """The segmenter of a workdir, as any program of alp_jax makes it."""
    settings = config.load(workdir)
    label_set = classes.load(workdir, settings.data.label_set)
    segmenter = models.create_segmenter(settings.model, label_set.num_classes)
    shapes, model_state = jax.eval_shape(segmenter.init, jax.random.key(0))
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.resolve("latest")
        held = checkpoints.segmenter_parts(step)
        like = {part: tree for part, tree in shapes.items() if part in held}
        restored, model_state = checkpoints.restore_segmenter(step, like, model_state)
    afresh = {part: draw(tree) for part, tree in shapes.items() if part not in held}
    return segmenter, restored | afresh, model_state


def make_images():
    return np.random.default_rng(0).integers(0, 256, (2, 64, 97, 3), np.uint8)


def assert_same_logits(network, segmenter, params, model_state):
    images = make_images()
    apply = jax.jit(functools.partial(segmenter.apply, train=False))
    logits = apply(params, model_state, images)[0].logits
    with torch.no_grad():
        expected = network(images)
    if "features" in expected:  # The file has no classifier: it gets ours.
        head = published.Classifier(32, published.DILATIONS, 19)
        for conv, branch in zip(head.conv2d_list, params["classifier"].values(), strict=True):
            kernel = np.asarray(branch["kernel"]).transpose(3, 2, 0, 1)
            conv.weight.data = torch.from_numpy(kernel.copy())
            conv.bias.data = torch.from_numpy(np.asarray(branch["bias"]).copy())
        with torch.no_grad():
            expected = {"main": head(expected["features"].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)}
    assert logits.keys() == expected.keys()
    for name, value in expected.items():
        assert np.abs(logits[name] - value.numpy()).max() < 1e-5 * value.abs().max()


def assert_same_bits(actual, expected):
    assert list(actual) == list(expected)
    for key, value in expected.items():
        assert actual[key].dtype == value.dtype
        assert actual[key].shape == value.shape
        assert actual[key].numpy().tobytes() == value.contiguous().numpy().tobytes(), key


@pytest.mark.parametrize("layout", DEEPLAB)
def test_logits_are_those_of_the_published_network_and_the_way_back_gives_its_bits(
    layout, tmp_path
):
    network = published.create(layout)
    state_dict = save(tmp_path / "file.pth", layout, network=network)
    report = importing.import_weights(
        tmp_path / "file.pth", tmp_path / "workdir", importing.Choices(layout)
    )
    assert f"of the layout {layout} " in report
    assert f"--config.init_from={tmp_path / 'workdir'}" in report
    assert f"  ignored: {IGNORED.get(layout, '20 tensors, batch norm')}" in report
    assert ("--mode=evaluate" in report, "no classifier" in report) == (
        (False, True) if layout in BACKBONES else (True, False)
    )
    assert_same_logits(network, *restore(tmp_path / "workdir"))
    exporting.export_weights(tmp_path / "workdir", tmp_path / "back.pth", AUTO, "latest")
    assert_same_bits(torch.load(tmp_path / "back.pth", weights_only=True), state_dict)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("layout", "prefix"),
    [(layout, "module." + PREFIX.get(layout, "")) for layout in DEEPLAB] + [("caffe_init", "")],
)
def test_prefixes_come_back(layout, prefix, tmp_path):
    state_dict = save(tmp_path / "file.pth", layout, prefix)
    importing.import_weights(tmp_path / "file.pth", tmp_path / "workdir", importing.Choices(layout))
    exporting.export_weights(tmp_path / "workdir", tmp_path / "back.pth", AUTO, "latest")
    assert_same_bits(torch.load(tmp_path / "back.pth", weights_only=True), state_dict)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_wrapped_state_dict_of_odd_bits_comes_back(wrapper, tmp_path):
    state_dict = published.create("advent_single").state_dict()
    # In another order, without counters, with all kinds of finite numbers, and not contiguous.
    state_dict = {key: state_dict[key] for key in reversed(state_dict) if "num_batches" not in key}
    odd = state_dict["layer1.0.conv1.weight"].view(-1)
    bits = [0x80000000, 0x00000001, 0x807FFFFF, 0x7F7FFFFF, 0xFF7FFFFF]
    odd[: len(bits)].view(torch.int32).copy_(torch.tensor(np.array(bits, np.uint32).view(np.int32)))
    state_dict["conv1.weight"] = state_dict["conv1.weight"].flip(-1).transpose(2, 3)
    content = {"epoch": 3, wrapper: state_dict, "note": "x"}
    torch.save(content, tmp_path / "file.pth")
    report = importing.import_weights(tmp_path / "file.pth", tmp_path / "workdir")
    assert "left behind: epoch, note," in report
    exporting.export_weights(tmp_path / "workdir", tmp_path / "back.pth", AUTO, "latest")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(back) == [wrapper]
    assert_same_bits(back[wrapper], state_dict)


class _Python2Pickler(pickle._Pickler):
    """Writes strings as Python 2 does, with which CRST's weights were made."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_str(self, text):
        data = text.encode()
        self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        self.memoize(text)

    dispatch[str] = save_str


class _Python2:
    __name__ = "pickle"
    Pickler = _Python2Pickler

    @staticmethod
    def dump(content, file, protocol):
        _Python2Pickler(file, protocol).dump(content)


def test_a_file_of_python_2_is_read(tmp_path):
    state_dict = published.create("clan").state_dict()
    path = tmp_path / "file.pth"
    torch.save(state_dict, path, pickle_module=_Python2, _use_new_zipfile_serialization=False)
    assert b"U\x0cconv1.weight" in path.read_bytes()
    assert "of the layout clan (CLAN): 19 classes" in importing.import_weights(
        path, tmp_path / "workdir"
    )


def test_the_workdir_tells_everything(tmp_path):
    save(tmp_path / "file.pth", "clan", network=published.create("clan", 16))
    report = importing.import_weights(tmp_path / "file.pth", tmp_path / "workdir")
    settings = config.load(tmp_path / "workdir")
    assert settings.data.label_set == "cityscapes_16"
    assert flatten(to_config(settings.model)) == flatten(default.get_config().model) | {
        "backbone.stem_widths": [5],
        "backbone.depths": [1, 2, 1, 1],
        "backbone.widths": [4, 4, 6, 8],
        "backbone.strides": [1, 2, 1, 1],
        "backbone.dilations": [1, 1, 2, 4],
        "heads.main.dilations": [6, 12, 18, 24, 6, 12, 18, 24],
        "input_mean": [104.00698793, 116.66876762, 122.67891434],
        "input_std": [1.0, 1.0, 1.0],
    }
    weights = json.loads((tmp_path / "workdir" / "weights.json").read_text())
    assert (weights["layout"], weights["prefix"]) == ("clan", "")
    assert len(weights["keys"]) == len(published.create("clan").state_dict())
    for part in (
        f"sha256 {weights['sha256']}",
        "ignored: 20 tensors, batch norm's counters of batches",
        "--config.model.heads.main.dilations=6,12,18,24,6,12,18,24",
        "--config=configs/synthia_to_cityscapes.py:alp_gi --workdir=runs/synthia_alp_gi ",
        "--mode=evaluate --workdir=",
    ):
        assert part in report


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Converts the file of a layout, once: (workdir, report)."""

    @functools.cache
    def convert_once(layout, num_classes=19):
        folder = tmp_path_factory.mktemp(layout)
        save(folder / "file.pth", layout, network=published.create(layout, num_classes))
        report = importing.import_weights(
            folder / "file.pth", folder / "workdir", importing.Choices(layout)
        )
        return folder / "workdir", report

    return convert_once


def start(config_file, *arguments):
    """Starts the segmenter of a run as training does: its settings and parameters."""
    path, _, variant = config_file.partition(":")
    settings = build_settings(configuration.read_config(path, variant or "alp_gi", arguments))
    segmenter = assembly.create_setup(settings).segmenter
    entry = state.SegmenterState(*draw(jax.eval_shape(segmenter.init, jax.random.key(0))), None)
    started = assembly.init_from(settings, state.TrainState(np.int32(0), entry, None))
    return settings, started.segmenter.params


@pytest.mark.parametrize(
    ("layout", "num_classes", "afresh", "heads"),
    [
        ("torchvision", 19, "classifier", []),
        ("clan", 16, "nothing", []),
        ("crst", 13, "nothing", []),
        ("advent", 19, "nothing", ["aux", "main"]),
        ("adaptsegnet", 16, "nothing", ["aux", "main"]),
    ],
)
def test_the_flags_that_are_printed_start_a_run(
    layout, num_classes, afresh, heads, converted, caplog
):
    caplog.set_level("INFO", logger="alp_jax")
    _, report = converted(layout, num_classes)
    first, *others = re.findall(r"  python -m alp_jax.main --config=(.*)", report)
    config_file, _, *arguments = first.split()
    assert config_file.endswith(":alp_gi")
    settings, _ = start(config_file, *arguments)
    assert settings.data.label_set == f"cityscapes_{num_classes}"
    assert settings.model.heads.keys() == {"main"}
    assert f"initialised afresh: {afresh}." in caplog.text
    for line in others:
        config_file, _, *arguments = line.split()
        settings, params = start(config_file, *arguments)
        assert sorted(settings.model.heads) == heads
        assert sorted(params) == ["aux_classifier", "backbone", "classifier"]
        assert caplog.text.count("initialised afresh: nothing.") == 2
        assert caplog.text.count("Its aux_classifier is not used.") == 1
    assert len(others) == bool(heads)


def small_network():
    """The flags for the backbone of published_networks."""
    widths, depths = (",".join(map(str, s)) for s in (published.WIDTHS, published.DEPTHS))
    return [
        f"--config.model.backbone.stem_widths={published.STEM_WIDTH}",
        f"--config.model.backbone.widths={widths}",
        f"--config.model.backbone.depths={depths}",
    ]


@pytest.mark.parametrize(
    ("variant", "layout", "afresh"),
    [
        ("advent", "advent_single", "aux_classifier"),
        ("advent", "caffe_init", "aux_classifier, classifier"),
        ("advent", "advent", "nothing"),
        ("alp_gi", "advent", "nothing"),
        ("alp_gi", "caffe_init", "classifier"),
    ],
)
def test_heads_that_weights_lack_start_afresh(variant, layout, afresh, converted, caplog):
    caplog.set_level("INFO", logger="alp_jax")
    weights = f"--config.init_from={converted(layout)[0]}"
    start(f"configs/default.py:{variant}", weights, *small_network())
    assert f"initialised afresh: {afresh}." in caplog.text


@pytest.mark.parametrize(
    ("variant", "layout", "flag", "message"),
    [
        (
            "alp_gi",
            "adaptsegnet",
            "seed=1",
            r"belong to config.model.heads.main.dilations \[6, 12\], and this run has "
            r"\[6, 12, 18, 24\]: set --config.model.heads.main.dilations=6,12, or "
            "--config.init_heads=new to begin the classifiers anew, or start from",
        ),
        (
            "advent",
            "advent",
            "model.heads.aux.dilations=6",
            r"config.model.heads.aux.dilations \[6, 12, 18, 24\], and this run has \[6\]: set",
        ),
        ("advent", "advent", "model.heads.aux.stage=-1", "config.model.heads.aux.stage -2, and"),
        ("alp_gi", "advent", "data.label_set=cityscapes_16", "tell other classes apart: class nu"),
        ("alp_gi", "caffe_init", "model.input_order=rgb", "config.model.input_order 'bgr', and"),
    ],
)
def test_weights_of_a_network_that_differs_are_refused(variant, layout, flag, message, converted):
    weights = f"--config.init_from={converted(layout)[0]}"
    with pytest.raises(UserError, match=message):
        start(f"configs/default.py:{variant}", weights, *small_network(), f"--config.{flag}")


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("caffe_init", "caffe_init"),
        ("advent_single", "advent_single"),
        ("clan", "clan"),
        ("advent", "advent and adaptsegnet"),
        ("adaptsegnet", "advent and adaptsegnet"),
        ("crst", "adaptsegnet_single and crst"),
        ("adaptsegnet_single", "adaptsegnet_single and crst"),
        ("torchvision", "torchvision and caffe_init"),
    ],
)
def test_auto_takes_no_guess(layout, expected):
    prefix = PREFIX.get(layout, "")
    shapes = {key: tuple(t.shape) for key, t in published.create(layout).state_dict().items()}
    file = PublishedFile(pathlib.Path("file.pth"), shapes, prefix=prefix)
    if " and " not in expected:
        assert file.recognise() == expected
        return
    with pytest.raises(UserError, match=f"can be of the layouts {expected}, .* with --layout"):
        file.recognise()


def test_a_published_file_is_recognised_by_its_bits(tmp_path, monkeypatch):
    state_dict = save(tmp_path / "file.pth", "torchvision")
    sha256 = weight_files.sha256_of(tmp_path / "file.pth")
    monkeypatch.setitem(importing.PUBLISHED_FILES, sha256[:8], "torchvision")
    importing.import_weights(tmp_path / "file.pth", tmp_path / "workdir")
    assert config.load(tmp_path / "workdir").model.backbone.stride_in == "3x3"
    # As CRST uses them; they still go back as they came.
    path = tmp_path / "workdir" / "config.json"
    path.write_text(path.read_text().replace('"3x3"', '"1x1"'))
    exporting.export_weights(tmp_path / "workdir", tmp_path / "back.pth", AUTO, "latest")
    assert_same_bits(torch.load(tmp_path / "back.pth", weights_only=True), state_dict)


def test_the_full_network_has_the_published_keys_and_parameters():
    with torch.device("meta"):
        network = published.Network("advent", 19, (64, (3, 4, 23, 3), (64, 128, 256, 512)))
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    assert len(shapes) == 640
    assert sum("num_batches_tracked" not in key for key in shapes) == 536
    file = PublishedFile(pathlib.Path("file.pth"), shapes)
    layout = LAYOUTS["advent"]
    run_config = file.create_config(layout)
    usual = default.get_config().model
    with usual.unlocked():
        usual.heads.aux = head("aspp", stage=-2)
    assert run_config.model == usual
    model = file.read_model(layout)
    assert build_settings(run_config).model == model
    expected = trees.create_shapes(model, 19, layout)
    assert set(file.account_for("advent", model, expected).values()) == {
        "batch norm's counters of batches, which nothing reads"
    }
    assert sum(leaf.size for leaf in jax.tree.leaves(expected["params"])) == 44_601_560
    assert sort_as_published(shapes, layout) == list(shapes)


def edit(**changes):
    """A state dict of AdvEnt's with keys removed (None) or replaced; _ stands for a dot."""

    def make():
        state_dict = dict(published.create("advent").state_dict())
        for name, value in changes.items():
            key = name.replace("__", ".")
            if value is None:
                del state_dict[key]
            else:
                state_dict[key] = value
        return state_dict

    return make


def with_classes(layout, num_classes):
    return lambda: published.create(layout, num_classes).state_dict()


def of_two_kinds():
    """CLAN's network, but its two classifiers tell different classes apart."""
    other = published.create("clan", 20).state_dict()
    layer5 = {key: value for key, value in other.items() if key.startswith("layer5")}
    return {**published.create("clan").state_dict(), **layer5}


FLOAT = torch.zeros(3)


@pytest.mark.parametrize(
    ("make", "layout", "message"),
    [
        (edit(layer9__weight=FLOAT), "advent", "layout advent: it has layer9.weight, which are"),
        (edit(layer9__num_batches_tracked=torch.tensor(1)), "advent", "has layer9.num_batches_tr"),
        (edit(bn1__bias=None), "advent", "not of the layout advent: it lacks bn1.bias; give the"),
        (edit(conv1__weight=None), "advent", "lacks conv1.weight, and holds bn1.bias"),
        (edit(layer2__0__conv1__weight=None), AUTO, "lacks layer2.0.conv1.weight, and holds"),
        (
            edit(layer1__0__conv2__weight=torch.zeros(4, 4, 1, 1)),
            "advent",
            r"layer1.0.conv2.weight in .*file.pth has shape \(4, 4, 1, 1\): expected "
            r"\(4, 4, 3, 3\) in the layout advent;",
        ),
        (
            edit(conv1__weight=FLOAT),
            "advent",
            r"conv1.weight in .* has shape \(3,\): expected that of a convolution or linear",
        ),
        (
            edit(conv1__weight=torch.zeros(5, 3, 7, 7).double()),
            "advent",
            "is float64: expected float",
        ),
        (edit(epoch=3), "advent", "holds int as 'epoch': expected a state dict"),
        (edit(), AUTO, "can be of the layouts advent and adaptsegnet, .*: say whose it is"),
        (edit(), "crst", "not of the layout crst: it has layer6.conv2d_list.0.bias, .* and 2 more"),
        (edit(), "clan", r"layer5.conv2d_list.0.weight in .* expected \(19, 32, 3, 3\) in the"),
        (edit(), "torchvision", "it has layer5.conv2d_list.0.bias, .* and 10 more, which are"),
        (with_classes("crst", 19), "advent", "lacks layer6.conv2d_list.0.weight, and holds"),
        (with_classes("crst", 19), "caffe_init", "it has layer5.conv2d_list.0.bias"),
        (
            with_classes("clan", 20),
            "clan",
            "has 20 classes: expected 19, 16, 13 classes, those of Cityscapes; name",
        ),
        (with_classes("clan", 20), AUTO, r"has 20 classes: .* --ignore='\(layer5\|layer6\)"),
        (of_two_kinds, AUTO, r"is of no layout .*layer5 \(20, 32, 3, 3\), layer6 \(19"),
        (lambda: torch.zeros(3), AUTO, "holds Tensor: expected a state dict"),
        (dict, AUTO, "holds dict: expected a state dict"),
        (lambda: {3: FLOAT}, AUTO, "holds Tensor as 3: expected a state dict"),
        (lambda: {"model": {"lr": 0.1}}, AUTO, "holds float as 'lr': expected a state dict"),
    ],
)
def test_wrong_weights_are_one_sentence(make, layout, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        convert(tmp_path, make(), layout)
    assert str(error.value).endswith(".")
    assert [path.name for path in tmp_path.iterdir()] == ["file.pth"]


class Dangerous:
    def __reduce__(self):
        return (pathlib.Path("harmed").touch, ())


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Dangerous()}, "file.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"asks to load .*, which could run code: expected"):
        importing.import_weights(pathlib.Path("file.pth"), pathlib.Path("workdir"))
    assert [path.name for path in tmp_path.iterdir()] == ["file.pth"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_is_cut_short_or_another_is_one_sentence(zipped, tmp_path):
    path = tmp_path / "file.pth"
    state_dict = published.create("advent").state_dict()
    torch.save(state_dict, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:100], b"neither"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot be read .*: expected a whole \.pth file"):
            importing.import_weights(path, tmp_path / "workdir")


def test_without_pytorch_the_command_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "file.pth").write_bytes(b"\x80\x02weights")
    with pytest.raises(UserError, match=r"needs PyTorch: pip install 'alp_jax\[convert\]'\."):
        importing.import_weights(tmp_path / "file.pth", tmp_path / "workdir")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_conversion_that_is_cut_short_leaves_nothing(error, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    state_dict = published.create("clan").state_dict()
    monkeypatch.setattr(checkpoint.Checkpoints, "save", fail)
    with pytest.raises((KeyboardInterrupt, UserError)) as caught:
        convert(tmp_path, state_dict)
    if caught.type is UserError:
        assert "Cannot write" in str(caught.value)
        assert "No space left on device" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file.pth"]


def test_a_damaged_record_is_one_sentence(tmp_path):
    workdir = convert(tmp_path, published.create("clan").state_dict())
    weights = workdir / "weights.json"
    text = weights.read_text()
    for content, message in [
        (text[:100], "weights.json or unused.npz beside it cannot be read"),
        (text.replace('"bn1.bias"', '"bn9.bias"'), "weights.json lists other tensors"),
    ]:
        weights.write_text(content)
        with pytest.raises(UserError, match=message):
            exporting.export_weights(workdir, tmp_path / "back.pth", AUTO, "latest")
    assert not (tmp_path / "back.pth").exists()


def create_settings(**fields):
    """Settings of a run of ours with the small network; "." in a field's name is "__"."""
    run_config = default.get_config("source_only")
    with run_config.unlocked():
        if "heads__aux__dilations" in fields:
            run_config.model.heads.aux = head("aspp", stage=-2)
            run_config.terms.cross_entropy_aux = term("cross_entropy", head="aux")
        small = {
            "backbone__stem_widths": (published.STEM_WIDTH,),
            "backbone__depths": published.DEPTHS,
            "backbone__widths": published.WIDTHS,
        }
        run_config.model.update_from_flattened_dict(
            {name.replace("__", "."): value for name, value in (small | fields).items()}
        )
    return build_settings(run_config)


def save_run(workdir, settings, *states):
    """A run of ours with a checkpoint of each state; the first has the best score."""
    config.save(settings, workdir)
    with checkpoint.Checkpoints(workdir, keep_last=len(states)) as checkpoints:
        for i, state in enumerate(states):
            checkpoints.save(10 * (i + 1), state)
            path = scores.summary_path(workdir, 10 * (i + 1))
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"mean_iou": 0.4 / (i + 1)}))


AUX = {"heads__aux__dilations": published.DILATIONS}
RGB = {
    "input_order": "rgb",
    "input_mean": (123.675, 116.28, 103.53),
    "input_std": (58.395, 57.12, 57.375),
}


@pytest.mark.parametrize(
    ("layout", "asked", "fields"),
    [
        ("advent", AUTO, AUX),
        ("advent_single", AUTO, {}),
        (
            "adaptsegnet",
            "adaptsegnet",
            {"heads__main__dilations": (6, 12), "heads__aux__dilations": (6, 12)},
        ),
        ("adaptsegnet_single", "adaptsegnet_single", {"heads__main__dilations": (6, 12)}),
        ("clan", "clan", {"heads__main__dilations": 2 * published.DILATIONS}),
        ("crst", "crst", RGB),
        ("torchvision", "torchvision", {"backbone__stride_in": "3x3", **RGB}),
        ("caffe_init", "caffe_init", {}),
    ],
)
def test_a_run_of_ours_gives_the_published_network_the_same_logits(layout, asked, fields, tmp_path):
    settings = create_settings(**fields)
    segmenter = models.create_segmenter(settings.model, 19)
    params, model_state = draw(jax.eval_shape(segmenter.init, jax.random.key(0)))
    save_run(
        tmp_path / "run", settings, {"segmenter": {"params": params, "model_state": model_state}}
    )
    report = exporting.export_weights(tmp_path / "run", tmp_path / "run.pth", asked, "latest")
    assert f"holds checkpoint 10 of {tmp_path / 'run'} in the layout {layout} " in report
    written = torch.load(tmp_path / "run.pth", weights_only=True)
    network = published.Network(layout).eval()
    published_keys = [PREFIX.get(layout, "") + key for key in network.state_dict()]
    if layout in BACKBONES:
        assert "left out: the classifier that was trained" in report
        published_keys = [k for k in published_keys if ".conv2d" not in k and k[:3] != "fc."]
    assert list(written) == published_keys
    assert {str(t.dtype) for k, t in written.items() if "tracked" in k} == {"torch.int64"}
    state_dict = {key.removeprefix("Scale."): value for key, value in written.items()}
    network.load_state_dict(state_dict, strict=layout not in BACKBONES)
    if layout.startswith("adaptsegnet"):
        assert not state_dict["layer5.conv2d_list.3.weight"].any()
        assert "0: branches of dilation 18 and 24" in report
    assert_same_logits(network, segmenter, params, model_state)


def test_the_best_checkpoint_of_a_run_is_written(tmp_path):
    settings = create_settings(**AUX)
    create = functools.partial(assembly.create_train_state, assembly.create_setup(settings))
    latest = draw(jax.eval_shape(create, jax.random.key(0)))
    best = jax.tree.map(np.zeros_like, latest)
    save_run(tmp_path / "run", settings, best, latest)
    for name, step in [("best", 10), ("latest", 20), ("20", 20)]:
        path = tmp_path / f"{name}.pth"
        report = exporting.export_weights(tmp_path / "run", path, AUTO, name)
        assert f"holds checkpoint {step} of" in report
        kernel = torch.load(path, weights_only=True)["conv1.weight"]
        assert bool(kernel.any()) == (step == 20)
    with pytest.raises(UserError, match=r"No checkpoint '7' in .*: it holds 10, 20"):
        exporting.export_weights(tmp_path / "run", tmp_path / "7.pth", AUTO, "7")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (
            "adaptsegnet_single",
            r"config.model.heads.main.dilations \[6, 12, 18, 24\]: expected \[6, 12\], which is "
            "what the layout adaptsegnet_single means; give --layout=caffe_init or advent_single.",
        ),
        ("advent", r"config.model.heads \['main'\]: expected \['aux', 'main'\], which is what"),
        ("crst", "config.model.input_order 'bgr': expected 'rgb'"),
        ("torchvision", "config.model.backbone.stride_in '1x1': expected '3x3'"),
    ],
)
def test_a_layout_that_means_another_network_is_refused(layout, message, tmp_path):
    config.save(build_settings(default.get_config()), tmp_path / "run")
    with pytest.raises(UserError, match=message):
        exporting.export_weights(tmp_path / "run", tmp_path / "run.pth", layout, "latest")


def test_a_backbone_has_no_layout_with_a_classifier(tmp_path):
    workdir = convert(tmp_path, published.create("caffe_init").state_dict(), "caffe_init")
    with pytest.raises(UserError, match=r"Checkpoint 0 of .* lacks the classifier that the layout"):
        exporting.export_weights(workdir, tmp_path / "run.pth", "advent_single", "latest")


def test_the_small_networks_of_toy_cities_have_no_published_layout(tmp_path):
    config.save(build_settings(toy_cities.get_config()), tmp_path / "run")
    with pytest.raises(
        UserError, match=r"block 'basic': expected 'bottleneck', .*; no other layout holds it"
    ):
        exporting.export_weights(tmp_path / "run", tmp_path / "run.pth", AUTO, "latest")


COMMAND = "data_prep.convert_weights"


def test_the_command_converts_both_ways_and_overwrites_nothing(tmp_path):
    path, workdir, back = (tmp_path / name for name in ("file.pth", "workdir", "back.pth"))
    state_dict = save(path, "advent")
    # As a user gives it; the others run here, which spares the imports.
    result = run_module(COMMAND, f"--input={path}", f"--output={workdir}", "--layout=advent")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("file.pth is of the layout advent (AdvEnt, two levels): 19 ")
    result = call(COMMAND, f"--input={workdir}", f"--output={back}")
    assert result.returncode == 0, result.stderr
    assert f"{back} holds checkpoint 0 of {workdir} in the layout advent" in result.stdout
    assert_same_bits(torch.load(back, weights_only=True), state_dict)
    for source, output in ((path, workdir), (workdir, back)):
        result = call(COMMAND, f"--input={source}", f"--output={output}")
        assert result.returncode == 2
        assert f"error: The output {output} exists already, and nothing is" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input=a.pth"], "error: Give --input and --output"),
        (["--input=/nowhere/a.pth", "--output=/nowhere/b"], "/nowhere/a.pth does not exist"),
        (["--input=a.pth", "--output=b", "--layout=adevnt"], "adevnt"),
    ],
)
def test_wrong_flags_are_one_sentence(arguments, message):
    result = call(COMMAND, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
