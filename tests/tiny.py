"""A dataset and a configuration small enough for tests: 12 source and 10 target images of 32x48."""

import pathlib
from collections.abc import Collection, Iterator
from typing import Any, ClassVar

import cv2
import jax
import ml_collections
import numpy as np
import tensorflow_datasets as tfds

from alp_jax.data.labels import load_label_set
from alp_jax.data.samples import Batch, Sample
from alp_jax.run import assembly
from alp_jax.workdir import checkpoint
from alp_jax.workdir import config as run_config
from alp_jax.workdir.settings import build_settings
from configs import default, toy_cities

HEIGHT, WIDTH = 32, 48
NUM_TRAIN, NUM_EVAL = 12, 7
_IDS = np.array([c.label_id for c in load_label_set("cityscapes_16").classes], np.uint8)


def encode(image: np.ndarray) -> bytes:
    """PNG bytes of an RGB or single-channel image."""
    ordered = image[..., ::-1] if image.ndim == 3 and image.shape[-1] == 3 else image
    return cv2.imencode(".png", ordered)[1].tobytes()


def make_example(seed: int) -> dict[str, np.ndarray]:
    """Blocks of random classes; the colour of a pixel tells its class, up to noise."""
    rng = np.random.default_rng(seed)
    classes = np.kron(rng.integers(0, 16, (4, 6)), np.ones((8, 8), int))
    image = 15 * classes[..., None] + rng.integers(0, 15, (HEIGHT, WIDTH, 3))
    return {"image": image.astype(np.uint8), "label": _IDS[classes][..., None]}


class Tiny(tfds.core.GeneratorBasedBuilder):
    """Configs as toy_cities has them."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name) for name in ("source", "target", "target_unlabelled")
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "name": tfds.features.Text(),
        }
        if self.builder_config.name != "target_unlabelled":
            features["label"] = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        if self.builder_config.name == "target_unlabelled":
            return {"train": self._generate_examples(100, NUM_TRAIN - 2)}
        first = 0 if self.builder_config.name == "source" else 200
        return {
            "train": self._generate_examples(first, NUM_TRAIN),
            "validation": self._generate_examples(first + 50, NUM_EVAL),
            "test": self._generate_examples(first + 70, NUM_EVAL),
        }

    def _generate_examples(self, first: int, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(first, first + count):
            example = make_example(index)
            record = {"image": encode(example["image"]), "name": f"{index:05d}"}
            if "label" in self.info.features:
                record["label"] = encode(example["label"])
            yield index, record


def build(data_dir: pathlib.Path) -> None:
    """Writes all configs under `data_dir/tiny`."""
    tfds.disable_progress_bar()
    for config in Tiny.BUILDER_CONFIGS:
        builder = Tiny(config=config.name, data_dir=data_dir, file_format="array_record")
        builder.download_and_prepare()


def get_config(data_dir: pathlib.Path, variant: str = "alp_gi") -> ml_collections.ConfigDict:
    """The smallest network that still has every part, on the tiny dataset."""
    config = toy_cities.get_config(variant)
    with config.unlocked():
        config.init_from = ""
        config.num_steps = 6
        if config.rounds.num_rounds:
            config.rounds.num_rounds, config.rounds.steps_per_round = 2, 3
        config.log_every_steps = 2
        config.tensorboard = False
        config.data.data_dir = str(data_dir)
        config.data.source = "tiny/source"
        config.data.target = "tiny/target_unlabelled"
        set_sizes(config)
        config.optimizer.horizon_steps = 10
        config.evaluation.dataset = "tiny/target"
        config.evaluation.batch_size = 3
        config.evaluation.every_steps = 3
        config.evaluation.num_sheet_images = 1
        config.checkpoint.every_steps = 2
        config.mesh.data = config.mesh.space = 1
    return config


def set_sizes(config: ml_collections.ConfigDict) -> None:
    """Makes images, the network of configs/toy_cities.py, crops, patches and terms small."""
    config.data.source_size = config.data.target_size = (HEIGHT, WIDTH)
    config.data.batch_size = 2
    config.rounds.crop_size = (HEIGHT, WIDTH)
    config.model.backbone.stem_widths = (4, 8)
    config.model.backbone.depths = (1, 1)
    config.model.backbone.widths = (8, 8)
    config.model.backbone.strides = (1, 1)
    config.model.backbone.dilations = (1, 2)
    default.set_everywhere(config.model.heads, dilations=(1, 2))
    default.set_everywhere(config.views, size=(16, 16), num_crops=2, beta=0.1)
    default.set_everywhere(config.terms, widths=(4, 4), patch_size=(16, 16), num_patches=2)
    # The tiny dataset has no class frequencies to count them from.
    default.set_everywhere(config.terms, class_shares=(0.25, 0.15, *[0.6 / 14] * 14))


def make_batch(num_classes: int = 16, domains: Collection[str] = ("source", "target")) -> Batch:
    """Random images of two each; random labels for the source, some of them ignored."""
    rng = np.random.default_rng(0)
    shape = (2, HEIGHT, WIDTH)
    labels = rng.choice([*range(num_classes), 255], shape).astype(np.uint8)
    mixed = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    samples = {
        "self_training": Sample(mixed, labels, from_target=np.array([False, True])),
        "source": Sample(rng.integers(0, 256, (*shape, 3)).astype(np.uint8), labels),
        "target": Sample(rng.integers(0, 256, (*shape, 3)).astype(np.uint8)),
    }
    return {domain: samples[domain] for domain in domains}


def save_run(data_dir: pathlib.Path, workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """A workdir as training leaves it, but with the initial weights: nothing is compiled for it.

    The classifier's are large, so that predictions differ from pixel to pixel.
    """
    config = get_config(data_dir, "source_only")
    settings = build_settings(config)
    state = assembly.create_train_state(assembly.create_setup(settings), jax.random.key(0))
    classifier = jax.tree.map(lambda kernel: 100 * kernel, state.segmenter.params["classifier"])
    params = {**state.segmenter.params, "classifier": classifier}
    state = state.replace(segmenter=state.segmenter.replace(params=params))
    run_config.save(settings, workdir)
    with checkpoint.Checkpoints(workdir) as checkpoints:
        checkpoints.save(6, state)
    return config


def change(config: ml_collections.ConfigDict, **fields: Any) -> ml_collections.ConfigDict:
    """Copies a configuration, with some fields changed."""
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.update_from_flattened_dict(fields)
    return changed
