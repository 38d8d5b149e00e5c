"""The command line: `python -m data_prep.toy_cities --help`."""

import os
import pathlib
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from absl import flags
from rich import console as rich_console
from rich import progress as rich_progress

from alp_jax.cli import EXIT_INTERRUPTED, EXIT_USER_ERROR
from alp_jax.errors import UserError
from data_prep.toy_cities import builder, prepare, preview
from data_prep.toy_cities.render import Settings

_USAGE = """Renders the two cities of toy_cities and writes them as TFDS datasets.

  python -m data_prep.toy_cities --data_dir=datasets
  python -m data_prep.toy_cities --preview=sheet.png --camera_shift=0.5
"""
_DEFAULT = Settings()
_MAX_WORKERS = 256
_FLOATS = (
    ("camera_shift", _DEFAULT.camera_shift, "Target cameras: 0 as in the source city, 1 dashcams."),
    ("appearance_shift", _DEFAULT.appearance_shift, "Target look: 0 as in the source city, to 1."),
)
_INTEGERS = (
    ("seed", _DEFAULT.seed, "Another seed gives other cities."),
    ("height", _DEFAULT.height, "Image height in pixels."),
    ("width", _DEFAULT.width, "Image width in pixels."),
    ("num_train", builder.NUM_TRAIN, "Training images per city."),
    ("num_eval", builder.NUM_EVAL, "Validation images and test images per city."),
    ("workers", min(os.cpu_count() or 1, _MAX_WORKERS), "Rendering processes."),
)


def _define_flags() -> flags.FlagValues:
    """The flags, apart from absl's global ones: another command may be in the same process."""
    values = flags.FlagValues()
    flags.DEFINE_string("data_dir", "datasets", "Where datasets are.", flag_values=values)
    flags.DEFINE_string(
        "preview", None, "Write a sheet of images to this PNG file instead.", flag_values=values
    )
    for name, default, text in _FLOATS:
        flags.DEFINE_float(name, default, text, flag_values=values)
    for name, default, text in _INTEGERS:
        flags.DEFINE_integer(name, default, text, flag_values=values)
    flags.DEFINE_bool("help", False, "Show this help.", flag_values=values)
    return values


def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        The exit status: 0; 2 after wrong input; 130 when interrupted.
    """
    try:
        return _run(argv)
    except (UserError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("Interrupted; no half dataset is left. Run again to continue.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run(argv: Sequence[str]) -> int:
    values = _define_flags()
    extra = values(list(argv))[1:]
    if extra:
        raise UserError(f"{extra[0]!r} is not a flag: write --name=value.")
    if values.help:
        print(_USAGE + values.get_help())
        return 0
    if not 1 <= values.workers <= _MAX_WORKERS:
        raise UserError(f"workers is {values.workers}, but it must be 1 to {_MAX_WORKERS}.")
    settings = Settings(
        seed=values.seed,
        height=values.height,
        width=values.width,
        camera_shift=values.camera_shift,
        appearance_shift=values.appearance_shift,
    )
    configs = [
        builder.make_config(part, settings, values.num_train, values.num_eval)
        for part in builder.Part
    ]
    if values.preview is not None:
        preview.write_preview(values.preview, settings)
        print(f"Wrote {values.preview}: source city left, target city right.")
        return 0
    _prepare(pathlib.Path(values.data_dir), configs, values.workers)
    return 0


def _prepare(
    data_dir: pathlib.Path, configs: Sequence[builder.ToyCitiesConfig], workers: int
) -> None:
    start = time.monotonic()
    prepare.check_writable(data_dir)
    pending = [config for config in configs if not prepare.is_complete(data_dir, config)]
    total = sum(sum(config.counts().values()) for config in pending)
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    console = rich_console.Console(stderr=True)
    previous = signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        with rich_progress.Progress(*columns, console=console, disable=not pending) as bar:
            task = bar.add_task("rendering toy_cities", total=total)
            prepare.prepare(data_dir, pending, workers, lambda: bar.advance(task))
    finally:
        signal.signal(signal.SIGTERM, previous)
    names = ", ".join(config.name for config in configs)
    skipped = (
        f", {len(configs) - len(pending)} already there" if len(pending) < len(configs) else ""
    )
    seconds = time.monotonic() - start
    print(f"toy_cities is in {data_dir / 'toy_cities'}: {names} ({seconds:.1f} s{skipped}).")


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:
    """Lets a termination request clean up like Ctrl-C."""
    raise KeyboardInterrupt
