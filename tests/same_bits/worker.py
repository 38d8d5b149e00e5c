"""Writes the programs of train steps, and what they compute, in one checkout of the project.

  python WORKER --table=cases.json --cases=alp_gi-plain,alp_gi-aux --output=DIR --steps=3

runs in the root of a checkout, which must also be the first entry of PYTHONPATH. For each case it
writes CASE.start.txt and CASE.step.txt, the StableHLO text of the start and of the train step with
the names of their outputs, and CASE.npz with every array of the state, and every scalar, after each
step. A case that fails leaves its traceback in CASE.error.

Only `build` knows the interface of the code. The table holds {case: {"method", "overrides"}} in the
vocabulary of commit 106e02e.
"""

import argparse
import functools
import json
import pathlib
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import alp_jax


class Built(NamedTuple):
    """A case, built.

    Attributes:
      create_state: jitted; takes a random key and gives the state at step 0.
      step: jitted, with its state donated; (state, batch, rng) -> (state, scalars).
      batch: what a step gets.
      rng: the key of all steps.
      compiler_options: what training compiles the step with.
    """

    create_state: Any
    step: Any
    batch: Any
    rng: jax.Array
    compiler_options: dict[str, Any] | None


def build(case: dict[str, Any]) -> Built:
    """Builds a case; the only function that knows the interface of alp_jax."""
    from alp_jax.data.samples import Sample
    from alp_jax.objective import state, step
    from alp_jax.run import assembly
    from alp_jax.workdir.config import upgrade_run
    from alp_jax.workdir.settings import build_settings

    settings = build_settings(upgrade_run(make_format_1(case)))
    setup = assembly.create_setup(settings)
    data, num_classes = settings.data, setup.segmenter.num_classes
    arrays = make_batch(data.batch_size, data.source_size, data.target_size, num_classes)
    samples = {
        "source": Sample(arrays["source_images"], arrays["source_labels"]),
        "target": Sample(arrays["target_images"]),
    }
    return Built(
        create_state=jax.jit(functools.partial(state.create_train_state, setup=setup)),
        step=jax.jit(functools.partial(step.train_step, setup=setup), donate_argnums=0),
        batch={domain: samples[domain] for domain in setup.objective.domains},
        rng=jax.random.key(7),
        compiler_options=assembly.COMPILER_OPTIONS.get(jax.default_backend()),
    )


def make_format_1(case: dict[str, Any]) -> dict[str, Any]:
    """Makes the configuration of a case as commit 106e02e wrote it to config.json."""
    table = json.loads(pathlib.Path(__file__).with_name("format_1.json").read_text())
    fields = table["defaults"]
    fields["objective"] |= table["methods"][case["method"]]
    for name, value in case["overrides"].items():
        *path, field = name.split(".")
        block = fields
        for key in path:
            block = block[key]
        block[field] = value
    return fields


def make_batch(
    batch_size: int, source_size: tuple[int, int], target_size: tuple[int, int], num_classes: int
) -> dict[str, np.ndarray]:
    """Makes random images, and random labels with 255, for no class, among them."""
    rng = np.random.default_rng(0)
    source, target = (batch_size, *source_size), (batch_size, *target_size)
    return {
        "source_images": rng.integers(0, 256, (*source, 3)).astype(np.uint8),
        "source_labels": rng.choice([*range(num_classes), 255, 255], source).astype(np.uint8),
        "target_images": rng.integers(0, 256, (*target, 3)).astype(np.uint8),
    }


def write_texts(built: Built, stem: pathlib.Path) -> None:
    """Writes the text of both programs, without locations; compiles nothing."""
    seed = jax.random.key(0)
    state = jax.eval_shape(built.create_state, seed)
    start = built.create_state.lower(seed)
    step = built.step.lower(state, built.batch, built.rng)
    options = json.dumps(built.compiler_options, sort_keys=True)
    start_text = describe_outputs({"state": start.out_info}) + start.as_text()
    new_state, scalars = step.out_info
    step_text = describe_outputs({"state": new_state, "scalar": scalars}) + step.as_text()
    stem.with_name(f"{stem.name}.start.txt").write_text(start_text)
    stem.with_name(f"{stem.name}.step.txt").write_text(f"// options: {options}\n{step_text}")


def describe_outputs(outputs: dict[str, Any]) -> str:
    """Lists the outputs of a program, whose names are not in its text, as lines of comment."""
    named = [
        pair for kind, tree in outputs.items() for pair in name_leaves(tree, f"{kind}/").items()
    ]
    return "".join(f"// {name}: {leaf.dtype} {leaf.shape}\n" for name, leaf in named)


def run_steps(
    built: Built, num_steps: int, *, optimise_start: bool, optimise_step: bool
) -> dict[str, np.ndarray]:
    """Runs steps, compiled as in training where they are optimised.

    The start takes longer to compile than the step, so that it is optimised on demand only.

    Returns:
      {"STEP/state/PATH": array, "STEP/scalar/NAME": array}; step 0 has the state only.
    """
    jax.config.update("jax_disable_most_optimizations", not optimise_start)
    state = built.create_state(jax.random.key(0))
    arrays = name_arrays(state, "0/state/")
    jax.config.update("jax_disable_most_optimizations", not optimise_step)
    step = built.step.lower(state, built.batch, built.rng).compile(built.compiler_options)
    for number in range(1, num_steps + 1):
        state, scalars = step(state, built.batch, built.rng)
        arrays |= name_arrays(scalars, f"{number}/scalar/")
        arrays |= name_arrays(state, f"{number}/state/")
    return arrays


def name_arrays(tree: Any, prefix: str) -> dict[str, np.ndarray]:
    """Copies the leaves of a tree by name; a view would change when its array is donated."""
    return {name: np.array(leaf) for name, leaf in name_leaves(tree, prefix).items()}


def name_leaves(tree: Any, prefix: str) -> dict[str, Any]:
    """Names the leaves of a tree: {"PREFIXsegmenter/params/backbone/...": leaf}."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)

    def name(path: tuple[Any, ...]) -> str:
        keys = [getattr(k, "key", getattr(k, "name", getattr(k, "idx", k))) for k in path]
        return prefix + "/".join(map(str, keys))

    return {name(path): leaf for path, leaf in leaves}


def run_case(case: dict[str, Any], stem: pathlib.Path, arguments: argparse.Namespace) -> None:
    """Writes the files of one case; `stem` is their path without its ending."""
    built = build(case)
    write_texts(built, stem)
    if not arguments.texts_only:
        arrays = run_steps(
            built,
            arguments.steps,
            optimise_start=arguments.optimise_start,
            optimise_step=not arguments.quick,
        )
        np.savez(stem.with_name(f"{stem.name}.npz"), **arrays)


def check_imports() -> None:
    """Refuses to go on with the alp_jax of another checkout; says which one it is.

    Raises:
      RuntimeError: if alp_jax is not that of the current folder.
    """
    found = pathlib.Path(alp_jax.__file__).resolve()
    if not found.is_relative_to(pathlib.Path.cwd().resolve()):
        raise RuntimeError(f"alp_jax is {found}: expected the one in {pathlib.Path.cwd()}.")
    print(f"alp_jax: {found.parent}", flush=True)


def attempt(function: Callable[[], None], error_path: pathlib.Path) -> str:
    """Calls a function; writes the traceback if it fails. Returns "ok" or "FAILED"."""
    try:
        function()
    except Exception as error:
        error_path.write_text(f"{traceback.format_exc()}\n{type(error).__name__}: {error}\n")
        return "FAILED"
    return "ok"


def main() -> None:
    """Runs the cases that the arguments select."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True, help="JSON file with all cases.")
    parser.add_argument("--cases", required=True, help="Names of cases, with commas.")
    parser.add_argument("--output", required=True, type=pathlib.Path, help="Folder to write to.")
    parser.add_argument("--steps", type=int, default=3, help="Steps to run.")
    parser.add_argument("--texts-only", action="store_true", help="Compile and run nothing.")
    parser.add_argument("--optimise-start", action="store_true", help="Compile the start fully.")
    parser.add_argument("--quick", action="store_true", help="Compile steps without optimisation.")
    arguments = parser.parse_args()
    check_imports()
    table = json.loads(pathlib.Path(arguments.table).read_text())
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.cases.split(","):
        started = time.monotonic()
        stem = arguments.output / name
        run = functools.partial(run_case, table[name], stem, arguments)
        outcome = attempt(run, stem.with_name(f"{name}.error"))
        print(f"  {name}: {outcome}, {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
