import importlib.metadata
import importlib.util
import os
import pathlib
from typing import Any, NamedTuple

import hypothesis
import pytest

# The same examples every time in CI; --hypothesis-profile=long draws others.
hypothesis.settings.register_profile(
    "ci", max_examples=200, deadline=None, derandomize=True, database=None
)
hypothesis.settings.register_profile("long", max_examples=10_000, deadline=None, print_blob=True)
hypothesis.settings.load_profile("ci")

# Most programs run once, so what takes least is what compiles fastest: a module at a time, with
# XLA's older code generator for the CPU where there still is one, in a quarter of the time. A
# user's own flags come after these and take precedence.
_XLA_FLAGS = "--xla_cpu_parallel_codegen_split_count=1"
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    _XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false"  # An unknown flag ends the process.


def pytest_configure(config: pytest.Config) -> None:
    """Compiled programs are shared by tests, workers and runs: compiling is most of the time."""
    cache_dir = str(config.rootpath / ".pytest_cache" / "jax")
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # Of the commands that tests start.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache_dir
    own_flags = os.environ.get("XLA_FLAGS", "").removeprefix(_XLA_FLAGS)  # Workers inherit ours.
    os.environ["XLA_FLAGS"] = f"{_XLA_FLAGS} {own_flags}".strip()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # PyTorch's threads wait by spinning.
    if config.getoption("numprocesses") and not hasattr(config, "workerinput"):
        return  # It only starts the workers, which wait for it.
    from alp_jax.command import cli

    cli.set_environment()  # As commands do before they import anything.
    # PyTorch for CUDA brings triton, which ends the process if it is imported after TensorFlow.
    if importlib.util.find_spec("triton"):
        importlib.import_module("triton")
    import jax

    # What runs once is not worth optimising; one test of test_cli compiles as users do.
    jax.config.update("jax_disable_most_optimizations", True)
    cli.collect_garbage_rarely()
    jax.config.update("jax_num_cpu_devices", 8)  # Of test_mesh; the others use the first.
    jax.config.update("jax_compilation_cache_dir", cache_dir)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the tiny dataset; tests must not change it."""
    from tests import tiny

    folder = tmp_path_factory.mktemp("datasets")
    tiny.build(folder)
    return folder


@pytest.fixture(scope="session")
def saved_run(data_dir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of an untrained run on the tiny dataset; tests must not change it."""
    from tests import tiny

    workdir = tmp_path_factory.mktemp("saved_run")
    tiny.save_run(data_dir, workdir)
    return workdir


class TrainedRun(NamedTuple):
    """A finished run on the tiny dataset.

    Attributes:
      config: that it was trained with.
      workdir: of the run; tests must not change it.
      summary: what training returned.
      num_traces: how often its train step was traced.
    """

    config: Any
    workdir: pathlib.Path
    summary: dict[str, Any]
    num_traces: int


@pytest.fixture(scope="session")
def trained_run(data_dir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """Six steps of ALP with running statistics; evaluated at 0, 3 and 6, saved at 3, 4 and 6."""
    from tests import tiny

    config = tiny.get_config(data_dir)
    with config.unlocked():
        config.model.backbone.batch_norm_mode = "running"
        config.tensorboard = True
    return _train(config, tmp_path_factory.mktemp("alp_gi"), profile_steps=1)


@pytest.fixture(scope="session")
def source_only_run(data_dir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """The same of source-only, without event files, and with frozen statistics."""
    from tests import tiny

    config = tiny.get_config(data_dir, "source_only")
    return _train(config, tmp_path_factory.mktemp("source_only"), profile_steps=0)


def _train(config: Any, workdir: pathlib.Path, *, profile_steps: int) -> TrainedRun:
    from alp_jax.objective import step
    from alp_jax.run import profiling, train

    traces = []
    train_step = step.train_step

    def counted(*args: Any, **kwargs: Any) -> Any:
        traces.append(1)
        return train_step(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "train_step", counted)
        patch.setattr(profiling, "WARM_UP_STEPS", 1)
        summary = train.train_and_evaluate(config, workdir, profile_steps=profile_steps)
    return TrainedRun(config, workdir, summary, len(traces))
