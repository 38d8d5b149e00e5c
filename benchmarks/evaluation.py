"""Measures evaluation at full resolution: images per second, and the time of each part.

  taskset -c 0 python -m benchmarks.evaluation --networks=small,full

Images of 512x1024 are scored at 1024x2048, as for Cityscapes, with 19 classes and random weights.
The network is that of configs/toy_cities.py (small) or the paper's (full). The whole step is
`eval_step` and the transfer of its sums to the host. Each part is timed as a separate program on
the output of the previous part, so the parts need not add up to the whole. Published code computes
the confusion matrix with numpy's bincount, which is timed, too. Times are the best of --repeats.
"""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax import models
from alp_jax.command import configuration
from alp_jax.evaluation import label_free, metrics
from alp_jax.evaluation.eval_step import eval_step
from alp_jax.evaluation.predictor import Predictor
from alp_jax.objective import maps, patches
from alp_jax.workdir.settings import build_settings
from benchmarks import results

IMAGE_SIZE, LABEL_SIZE, NUM_CLASSES = (512, 1024), (1024, 2048), 19
NETWORKS = {"small": ("configs/toy_cities.py", "alp_gi"), "full": ("configs/default.py", "alp_gi")}
# Outputs that the host sums; predictions and entropy stay on the device, except for a few pictures.
_SUMS = ("confusion", "entropy_total", "probs_total", "density_total", "num_images")


def main(arguments: Sequence[str]) -> int:
    """Measures and prints the times; writes them to --output as JSON."""
    parser = results.create_parser("evaluation", __doc__)
    add = parser.add_argument
    add("--networks", default="small", help="small, full, or small,full")
    add("--repeats", type=int, default=5)
    flags = parser.parse_args(arguments)
    rows = []
    for network in flags.networks.split(","):
        if network not in NETWORKS:
            parser.error(f"--networks has {network!r}: expected small, full or small,full.")
        rows.append({"network": network} | measure(network, flags.repeats))
        _print(rows[-1])
    if flags.output:
        cores = len(os.sched_getaffinity(0))
        content = {"processor": results.processor(), "cores": cores, "rows": rows}
        results.save(flags.output, "evaluation", arguments, content)
    return 0


def measure(network: str, repeats: int, scale: int = 1) -> dict[str, Any]:
    """Times the evaluation step and its parts.

    Args:
      network: a key of NETWORKS.
      repeats: number of timed calls; the fastest one counts.
      scale: divisor of the sides of images and labels.
    Returns:
      milliseconds of the whole ("step") and of each part; numpy_confusion_milliseconds;
      images_per_second; confusion_share and network_share, fractions of the whole.
    """
    config = configuration.read_config(*NETWORKS[network])
    segmenter = models.create_segmenter(build_settings(config).model, NUM_CLASSES)
    params, model_state = jax.jit(segmenter.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    image_size, label_size = (
        tuple(side // scale for side in size) for size in (IMAGE_SIZE, LABEL_SIZE)
    )
    images = rng.integers(0, 256, (1, *image_size, 3), np.uint8)
    labels = rng.integers(0, NUM_CLASSES, (1, *label_size), np.uint8)
    mask = np.ones(1, bool)
    predictor = Predictor((segmenter,), image_size)
    step = jax.jit(functools.partial(eval_step, predictor=predictor, num_classes=NUM_CLASSES))

    def evaluate() -> list[np.ndarray]:
        outputs = step([(params, model_state)], images, labels, mask)
        return [np.asarray(outputs[name]) for name in _SUMS]

    timer = _Timer(repeats)
    coarse = timer.run("network", _apply_network(predictor), params, model_state, images)
    upsample = functools.partial(patches.upsample, size=label_size)
    logits = timer.run("upsampling", upsample, coarse)
    predictions = timer.run("predictions", _predict, logits)
    timer.run("entropy, mean prediction", _entropy_and_mean_probs, logits)
    timer.run("neighbourhood density", label_free.soft_neighbourhood_density, logits)
    count = functools.partial(metrics.compute_confusion, num_classes=NUM_CLASSES)
    counts = timer.run("confusion", count, predictions, labels)
    del logits
    step_ms = _best(evaluate, repeats)
    arrays = labels.ravel(), np.asarray(predictions).ravel()
    if not np.array_equal(counts, count_published(*arrays)):
        raise RuntimeError("The two confusion matrices differ.")
    return {
        "milliseconds": {"step": step_ms, **timer.milliseconds},
        "numpy_confusion_milliseconds": _best(lambda: count_published(*arrays), repeats),
        "images_per_second": 1e3 / step_ms,
        "confusion_share": timer.milliseconds["confusion"] / step_ms,
        "network_share": timer.milliseconds["network"] / step_ms,
    }


class _Timer:
    """Compiles and times the parts of a step, and stores the times by name."""

    def __init__(self, repeats: int):
        self._repeats = repeats
        self.milliseconds: dict[str, float] = {}

    def run(self, name: str, part: Callable[..., Any], *arrays: Any) -> Any:
        """Times a part on the given arrays; returns its output."""
        compiled, placed = jax.jit(part), jax.device_put(arrays)
        self.milliseconds[name] = _best(
            lambda: jax.block_until_ready(compiled(*placed)), self._repeats
        )
        return compiled(*placed)


def _apply_network(predictor: Predictor) -> Callable[..., jax.Array]:
    def apply(params: Any, model_state: Any, images: jax.Array) -> jax.Array:
        return predictor.apply([(params, model_state)], images)[0][0]

    return apply


def _predict(logits: jax.Array) -> jax.Array:
    return jnp.argmax(logits, axis=-1).astype(jnp.uint8)


def _entropy_and_mean_probs(logits: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    entropy = maps.entropy(logits)
    return entropy, jnp.mean(entropy), jnp.mean(jax.nn.softmax(logits), axis=(0, 1, 2))


def count_published(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Counts like `fast_hist` of AdaptSegNet and AdvEnt: [C, C] int64, rows = truth."""
    counted = (labels >= 0) & (labels < NUM_CLASSES)
    bins = NUM_CLASSES * labels[counted].astype(int) + predictions[counted]
    return np.bincount(bins, minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)


def _print(row: dict[str, Any]) -> None:
    milliseconds = row["milliseconds"]
    print(f"{row['network']} network: {row['images_per_second']:.2f} images/s")
    for name, value in milliseconds.items():
        print(f"  {name:28} {value:9.1f} ms {value / milliseconds['step']:7.1%}")
    numpy_ms = row["numpy_confusion_milliseconds"]
    print(
        f"  {'(confusion by numpy':28} {numpy_ms:9.1f} ms {numpy_ms / milliseconds['step']:7.1%})"
    )


def _best(call: Callable[[], object], repeats: int) -> float:
    return 1e3 * min(results.time_calls(call, repeats))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
