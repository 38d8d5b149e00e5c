"""Makes tests/data/run_106e02e: a run of commit 106e02e, and what that commit made of it.

  git worktree add --detach /tmp/then 106e02e
  cd /tmp/then
  PYTHONPATH=/tmp/then python .../tests/data/make_run_106e02e.py --output=.../tests/data/run_106e02e

The run is ALP-GI with an auxiliary classifier on the dataset of tests/tiny.py: four steps, two
evaluations, one checkpoint. Beside its workdir are

  expected.json  the environment, a digest of every array in the checkpoint, and, of two steps more,
                 the line of metrics.jsonl and the scores
  expected.npz   every array of the state after these steps; of two validation images, the
                 classes and the entropy that the checkpoint predicts

It compiles as the tests do, with most optimisations disabled.
"""

import argparse
import hashlib
import json
import os
import pathlib
import platform
import shutil
import tempfile
from typing import Any

import numpy as np

FIRST_STEPS, ALL_STEPS = 4, 6
# The seeds of the first images in the validation split of tiny/target.
PREDICTED_SEEDS = (250, 251)
_TIMINGS = ("images_per_second", "input_wait_fraction")
# The network is smaller than that of tests/tiny.py, for the sake of the files' size.
_OVERRIDES: dict[str, Any] = {
    "num_steps": FIRST_STEPS,
    "model.stem_widths": (2, 4),
    "model.widths": (4, 4),
    "model.aux_classifier": True,
    "model.batch_norm_mode": "running",
    "discriminator.widths": (2,),
    "evaluation.every_steps": FIRST_STEPS,
    "checkpoint.every_steps": FIRST_STEPS,
    "checkpoint.keep_last": 1,
}


def describe_environment() -> dict[str, Any]:
    """Describes what the last bits of a float depend on."""
    import jax
    import jaxlib

    return {
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        **_describe_processor(),
        # XLA splits sums among threads: one for each core, or for each device if these are more.
        "num_cores": _count_cores(),
        "num_devices": jax.local_device_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "jax_disable_most_optimizations": jax.config.read("jax_disable_most_optimizations"),
    }


def _describe_processor() -> dict[str, str]:
    """The processor's name, and a digest of the instruction sets that it offers."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    flags = " ".join(sorted(fields.get("flags", "").split()))
    return {
        "processor": fields.get("model name", platform.processor()),
        "instruction_sets": hashlib.sha256(flags.encode()).hexdigest()[:16],
    }


def _count_cores() -> int:
    """Counts the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def name_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Names the leaves of a state: {"segmenter/params/backbone/...": array}."""
    import jax

    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    keystr = jax.tree_util.keystr
    return {keystr(path, simple=True, separator="/"): np.array(leaf) for path, leaf in leaves}


def digest(array: np.ndarray) -> str:
    """Computes the SHA-256 of an array's type, shape and bytes."""
    head = f"{array.dtype} {array.shape}\n".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def last_metrics(workdir: pathlib.Path) -> dict[str, float]:
    """Reads the last line of metrics.jsonl, without timings."""
    line = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    return {name: value for name, value in line.items() if name not in _TIMINGS}


def _set_up_jax() -> None:
    """Does what tests/conftest.py does."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_num_cpu_devices", 8)


def _make_run(workdir: pathlib.Path) -> Any:
    """Prepares the dataset in the current folder and trains; returns the configuration."""
    from alp_jax import train
    from tests import tiny

    data_dir = pathlib.Path("datasets")
    tiny.build(data_dir)
    config = tiny.get_config(data_dir, "alp_gi")
    config.update_from_flattened_dict(_OVERRIDES)
    train.train_and_evaluate(config, workdir)
    return config


def _restore(config: Any, workdir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    import jax

    from alp_jax import assembly, checkpoint

    statics = assembly.create_statics(config)
    like = jax.eval_shape(lambda: assembly.create_train_state(statics, jax.random.key(0)))
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        return name_arrays(checkpoints.restore(step, like=like))


def _predict(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """Predicts the validation images with the latest checkpoint."""
    from alp_jax import inference
    from tests import tiny

    images = [tiny.make_example(seed)["image"] for seed in PREDICTED_SEEDS]
    predictions = inference.load_segmenter(workdir).predict(images)
    return {
        "train_ids": np.stack([prediction.train_ids for prediction in predictions]),
        "entropy": np.stack([prediction.entropy for prediction in predictions]),
    }


def _continue(config: Any, workdir: pathlib.Path) -> dict[str, Any]:
    """Trains two steps more; returns their scores."""
    from alp_jax import train

    config.num_steps = ALL_STEPS
    return train.train_and_evaluate(config, workdir)


def _keep(workdir: pathlib.Path, output: pathlib.Path) -> None:
    """Copies a workdir without its pictures."""
    shutil.copytree(workdir, output / "workdir", ignore=shutil.ignore_patterns("*.png", "lock"))


def _make(output: pathlib.Path) -> None:
    """Makes everything, in the current folder, and writes it to `output`."""
    workdir = pathlib.Path("run")
    config = _make_run(workdir)
    _keep(workdir, output)
    restored = _restore(config, workdir, FIRST_STEPS)
    predictions = _predict(workdir)
    scores = _continue(config, workdir)
    continued = _restore(config, workdir, ALL_STEPS)
    described = {
        "environment": describe_environment(),
        "digests": {name: digest(array) for name, array in restored.items()},
        "metrics": last_metrics(workdir),
        "scores": scores,
    }
    (output / "expected.json").write_text(json.dumps(described, indent=1) + "\n")
    arrays = {f"state/{name}": array for name, array in continued.items()}
    arrays |= {f"predictions/{name}": array for name, array in predictions.items()}
    np.savez_compressed(output / "expected.npz", **arrays)


def main() -> None:
    """Makes the folder that --output names, anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    output = parser.parse_args().output.resolve()
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    _set_up_jax()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # The configuration then says data_dir = "datasets".
        _make(output)
        os.chdir(output)


if __name__ == "__main__":
    main()
