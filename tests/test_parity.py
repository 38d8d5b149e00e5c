"""alp_jax and published code restated in PyTorch give the same numbers (`tests/parity.py`).

On the paper's kind of network; tests/objective/test_methods.py compares every method on the demo's.

In single precision a unit may be just above zero on one side and just below on the other: a handful
of gradients then differ by percents, and all that follows a little. What must agree closely over
many steps is therefore compared in double precision, where that does not happen.
"""

import jax
import numpy as np
import pytest
import torch

from alp_jax.objective.settings import view
from alp_jax.run import assembly
from alp_jax.workdir.settings import build_settings
from configs import default
from tests import parity, torch_reference, torch_run

NUM_STEPS = 8
# A narrow network with every kind of layer, and sides of both parities; the adversarial gradients
# weigh as much as those of the cross-entropy, and the rates decay to a quarter.
SMALL = {
    "data.label_set": "cityscapes_13",
    "data.source_size": (40, 56),
    "data.target_size": (41, 57),
    "num_steps": NUM_STEPS,
    "model.backbone.stem_widths": (8,),
    "model.backbone.depths": (1, 2, 1, 1),
    "model.backbone.widths": (8, 8, 16, 16),
    "model.heads.dilations": (2, 4),
    "terms.widths": (8, 16),
    "terms.patch_size": (32, 48),
    "views.size": (32, 48),
    "terms.adversarial.weight": 0.5,
    "optimizer.segmenter_learning_rate": 1e-3,
    "optimizer.discriminator_learning_rate": 4e-4,
    "optimizer.horizon_steps": 10,
}
AUX_WEIGHTS = (0.4, 0.2)
TWO_OF_EACH = {"data.batch_size": 2, "terms.num_patches": 2, "views.num_crops": 2}
# Name: (method, whether it has an auxiliary head, fields).
RUNS = {
    "alp_running": ("alp_gi", True, {}),
    "crops_frozen": (
        "ap_ci",
        True,
        {
            "model.backbone.batch_norm_mode": "frozen",
            "optimizer.sgd_preset": "clean",
            **TWO_OF_EACH,
        },
    ),
    "alp_minimax": (
        "alp_gi",
        False,
        {
            "model.backbone.batch_norm_mode": "batch",
            "model.backbone.batch_norm_train_affine": True,
            "model.backbone.stride_in": "3x3",
            "terms.game": "minimax",
            "terms.decision": "patch",
            "optimizer.sgd_preset": "clean",
            **TWO_OF_EACH,
        },
    ),
}


def create_pair(run: str, dtype: type = np.float32) -> parity.Pair:
    method, has_aux, fields = RUNS[run]
    config = parity.create_config(
        method, {**SMALL, **fields}, aux_weights=AUX_WEIGHTS if has_aux else None
    )
    return parity.Pair(build_settings(config), dtype)


def test_single_precision_agrees_within_rounding(capsys):
    errors = {}
    for kind, error in parity.compare(create_pair("crops_frozen"), NUM_STEPS):
        errors.setdefault(kind, []).append(error)
    assert len(errors["losses"]) == NUM_STEPS
    for kind, bound in parity.BOUNDS.items():
        assert max(errors[kind]).value < bound, (kind, max(errors[kind]))


@pytest.mark.parametrize("run", ["alp_running", "alp_minimax"])
def test_double_precision_agrees_in_every_step(run):
    with parity.x64():
        pair = create_pair(run, np.float64)
        for step in range(NUM_STEPS):
            result = pair.step(parity.make_batch(pair.settings, seed=step))
            losses, gradients = result["losses"].error(), result["gradients"].error()
            assert losses.value < 1e-6, (step, losses)
            assert gradients.value < 1e-4, (step, gradients)
        displacement = pair.displacements().error()
        assert displacement.value < 1e-4, displacement


def create_pair_with_target_losses(dtype: type = np.float64, **fields) -> parity.Pair:
    """Entropy of many and of few pixels, FDA's penalty and images, and class ratios; all weigh."""
    shared = {name: value for name, value in SMALL.items() if "adversarial" not in name}
    config = parity.create_config(
        "minent_cp",
        {
            **shared,
            "data.target_size": SMALL["data.source_size"],
            "data.batch_size": 2,
            "terms.entropy.weight": 0.5,
            "terms.entropy.top_share": 0.3,
            "terms.entropy_aux.weight": 0.5,
            "terms.entropy_aux.exponent": 2.0,
            "terms.entropy_aux.resolution": "logits",
            "terms.class_ratio.weight": 0.5,
            "terms.class_ratio_aux.weight": 0.5,
            "terms.class_shares": (0.25, 0.15, *[0.6 / 11] * 11),
            **fields,
        },
    )
    with config.unlocked():
        config.views.source = view("fourier", beta=0.2)
    return parity.Pair(build_settings(config), dtype)


def test_losses_of_the_target_agree_in_every_step():
    with parity.x64():
        pair = create_pair_with_target_losses()
        for step in range(NUM_STEPS):
            result = pair.step(parity.make_batch(pair.settings, seed=step))
            losses, gradients = result["losses"].error(), result["gradients"].error()
            assert all(value > 0 for value in result["losses"].theirs.values())
            # The network takes images in single precision, and class ratios are differences.
            assert losses.value < 1e-5, (step, losses)
            assert gradients.value < 1e-4, (step, gradients)
        displacement = pair.displacements().error()
        assert displacement.value < 1e-4, displacement


def test_the_reference_is_the_published_network():
    with torch.device("meta"):
        network = torch_reference.DeepLabV2(
            num_classes=19,
            stem="imagenet",
            stem_widths=(64,),
            block="bottleneck",
            depths=(3, 4, 23, 3),
            widths=(64, 128, 256, 512),
            strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4),
            classifier_dilations=(6, 12, 18, 24),
            stride_in="1x1",
            batch_norm="batch",
            train_affine=False,
            multi_level=True,
        )
    parameters = list(network.parameters())
    assert len(network.state_dict()) == 640
    assert sum(p.numel() for p in parameters) == 44_601_560
    assert sum(p.numel() for p in parameters if p.requires_grad) == 44_496_216
    listing = [id(p) for p in network.backbone_listing()]
    counts = [listing.count(p) for p in set(listing)]
    assert len(listing) == 314
    assert [counts.count(times) for times in (1, 3, 4)] == [1, 99, 4]

    segmenter = assembly.create_setup(build_settings(default.get_config("advent"))).segmenter
    params, model_state = jax.eval_shape(segmenter.init, jax.random.key(0))
    leaves = jax.tree_util.tree_leaves_with_path([params, model_state["batch_stats"]])
    ours = {torch_run.segmenter_name(path[1:]): sorted(leaf.shape) for path, leaf in leaves}
    assert ours == {
        name: sorted(tensor.shape)
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize(("listings", "expected"), [(1, 0.438744), (3, -2.488059), (4, -4.541727)])
def test_repeated_sgd_is_that_of_pytorch_0_4(listings, expected):
    # Three steps of gradient 1 from p = 1: rate 0.1, momentum 0.9, decay 5e-4.
    parameter = torch.nn.Parameter(torch.ones(1))
    groups = [{"params": [parameter] * listings, "lr": 0.1}]
    sgd = torch_reference.RepeatedSGD(groups, momentum=0.9, weight_decay=5e-4)
    for _ in range(3):
        parameter.grad = torch.ones(1)
        sgd.step()
    assert parameter.item() == pytest.approx(expected, abs=1e-6)
