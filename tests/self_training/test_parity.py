"""Twenty steps of a round are those of CRST's published loop, restated in PyTorch."""

import copy
import dataclasses
import functools

import jax
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from alp_jax.data.samples import Sample
from alp_jax.objective import step
from alp_jax.objective.teacher import TeacherState
from alp_jax.run import assembly
from tests import parity, tiny, torch_reference, torch_run
from tests.objective import methods

NUM_STEPS, NUM_CLASSES = 20, 16
THRESHOLDS = np.linspace(0.2, 0.9, NUM_CLASSES).astype(np.float32)


def create_setup(name):
    """The published optimizer, which visits a parameter as often as it is listed."""
    settings = methods.create_settings(name)
    optimizer = dataclasses.replace(
        settings.optimizer, gradient_clip_norm=0.0, segmenter_learning_rate=2e-4
    )
    settings = dataclasses.replace(settings, optimizer=optimizer, num_steps=3)
    return settings, assembly.create_setup(settings)


def draw_start(setup, dtype):
    """A start, and a teacher with other weights."""
    start = torch_run.draw_state(setup, dtype)
    if start.teacher is None:
        return start
    rng = np.random.default_rng(5)
    other = jax.tree.map(
        lambda leaf: leaf * rng.uniform(0.8, 1.2, leaf.shape).astype(leaf.dtype),
        start.segmenter.params,
    )
    statistics = jax.tree.map(np.array, start.segmenter.model_state)
    return start.replace(teacher=TeacherState(other, statistics, THRESHOLDS))


def make_batch(number):
    """A source image and a target image; blocks of labels, some without; images of noisy blocks."""
    rng = np.random.default_rng(number)
    labels = rng.integers(0, NUM_CLASSES + 6, (2, 4, 6)).repeat(8, 1).repeat(8, 2)
    labels = np.where(labels >= NUM_CLASSES, 255, labels).astype(np.uint8)
    images = rng.integers(0, 256, (2, tiny.HEIGHT, tiny.WIDTH, 3)).astype(np.uint8)
    return Sample(images, labels, from_target=np.array([number % 2 == 0, True]))


class Published:
    """CRST's `train`, with `reg_loss_calc` or `reg_loss_calc_expand`.

    Its options: mr-weight-kld 0.1, which is both the weight of each target image and of the sum,
    for MRKLD; lr-weight-ent 0.25 for LRENT.
    """

    def __init__(self, settings, start, dtype, *, kld=0.0, alpha=0.0):
        self._kld, self._alpha, self._dtype = kld, alpha, dtype
        self._model = settings.model
        arguments = torch_run.torch_segmenter_arguments(settings)
        self.network = torch_reference.DeepLabV2(**arguments)
        self.network.to(torch.float64 if dtype == np.float64 else torch.float32)
        torch_run.fill(self.network, torch_run.player_tensors(start)["segmenter"])
        self.network.eval()
        if start.teacher is not None:
            self._teacher = copy.deepcopy(self.network)
            segmenter = dataclasses.replace(
                start.segmenter,
                params=start.teacher.params,
                model_state=start.teacher.model_state,
            )
            as_start = start.replace(segmenter=segmenter)
            torch_run.fill(self._teacher, torch_run.player_tensors(as_start)["segmenter"])
        rate = settings.optimizer.segmenter_learning_rate
        groups = [
            {"params": list(self.network.backbone_listing()), "lr": rate},
            {"params": list(self.network.head_listing()), "lr": 10 * rate},
        ]
        self._sgd = torch_reference.RepeatedSGD(groups, momentum=0.9, weight_decay=0.0005)

    def _predict(self, network, images):
        model = self._model
        ordered = images[..., ::-1] if model.input_order == "bgr" else images
        mean, std = (np.array(v, self._dtype) for v in (model.input_mean, model.input_std))
        scaled = np.moveaxis((ordered.astype(self._dtype) - mean) / std, 3, 1)
        logits = network(torch.from_numpy(np.ascontiguousarray(scaled)))["main"]
        return F.interpolate(logits, images.shape[1:3], mode="bilinear", align_corners=True)

    def _soften(self, sample, hard):
        """Soft labels of target images, and none where there is no hard label."""
        with torch.no_grad():
            probs = F.softmax(self._predict(self._teacher, sample.images), dim=1)
        thresholds = torch.from_numpy(THRESHOLDS).to(probs.dtype)[None, :, None, None]
        soft = torch.pow(probs / thresholds, 1.0 / self._alpha)
        soft = soft / soft.sum(1, keepdim=True)
        labelled = torch.from_numpy(sample.labels != 255)[:, None]
        is_target = torch.from_numpy(sample.from_target)[:, None, None, None]
        return torch.where(is_target, soft, hard) * labelled

    def step(self, sample):
        pred = self._predict(self.network, sample.images)
        num_classes = float(pred.shape[1])
        label = torch.from_numpy(sample.labels.astype(np.int64))
        labels = torch.zeros_like(pred)
        for k in range(pred.shape[1]):
            labels[:, k][label == k] = 1.0
        if self._alpha:
            labels = self._soften(sample, labels)
        label_sum = labels.sum(1)
        valid_num = torch.sum(label_sum != 0.0)
        reg_weights = torch.from_numpy(self._kld * sample.from_target).to(pred.dtype)
        valid_reg_num = torch.sum(label_sum[reg_weights != 0] != 0.0)
        logsoftmax = F.log_softmax(pred, dim=1)
        ce = torch.sum(-logsoftmax * labels)
        logsoftmax_val = logsoftmax * (label_sum != 0.0)[:, None]
        kld = torch.sum(-logsoftmax_val / num_classes * reg_weights.view(-1, 1, 1, 1))
        loss = ce / valid_num
        if valid_reg_num > 0:
            loss = loss + (self._kld * kld) / valid_reg_num
        self.network.zero_grad()
        loss.backward()
        self._sgd.step()
        return loss.item()


@pytest.mark.parametrize(
    ("name", "options", "dtype", "bounds"),
    [
        ("cbst", {}, np.float32, (1e-5, 1e-3)),
        ("mrkld", {"kld": 0.1}, np.float64, (1e-12, 1e-9)),
        ("lrent", {"alpha": 0.25}, np.float64, (1e-12, 1e-9)),
    ],
)
def test_twenty_steps_are_those_of_published_code(name, options, dtype, bounds):
    with parity.x64() if dtype == np.float64 else jax.default_matmul_precision("highest"):
        settings, setup = create_setup(name)
        state = draw_start(setup, dtype)
        published = Published(settings, state, dtype, **options)
        before = torch_run.player_tensors(state)["segmenter"]
        train_step = jax.jit(functools.partial(step.train_step, setup=setup))
        loss_error = 0.0
        for number in range(NUM_STEPS):
            sample = make_batch(number)
            expected = published.step(sample)
            state, scalars = train_step(state, {"self_training": sample}, methods.RNG)
            error = abs(float(scalars["loss/segmenter"]) - expected) / expected
            loss_error = max(loss_error, error)
        after = torch_run.player_tensors(jax.device_get(state))["segmenter"]
    errors, moves = {}, 0
    for tensor, value in published.network.state_dict().items():
        if tensor in after:
            theirs = value.detach().numpy() - before[tensor]
            ours = after[tensor] - before[tensor]
            moves += bool(np.abs(theirs).max())
            errors[tensor] = parity.relative_error(ours, theirs)
    print(name, loss_error, max(errors.values()))
    assert moves > 10
    assert loss_error < bounds[0]
    assert max(errors.values()) < bounds[1], max(errors, key=errors.get)
