"""Runs the command line: `python -m data_prep.toy_cities --help`."""

import pathlib
import time
from collections.abc import Sequence

from absl import flags

from data_prep.common import command, datasets
from data_prep.toy_cities import builder, folders, prepare, preview
from data_prep.toy_cities.render import Settings

_USAGE = """Renders the two cities of toy_cities and writes them as TFDS datasets.

  python -m data_prep.toy_cities --data_dir=datasets
  python -m data_prep.toy_cities --preview=sheet.png --camera_shift=0.5
"""
_DEFAULT = Settings()
_FLOATS = (
    (
        "camera_shift",
        _DEFAULT.camera_shift,
        "Target cameras: from 0, as in the source city, to 1, dashcams.",
    ),
    (
        "appearance_shift",
        _DEFAULT.appearance_shift,
        "Target appearance: from 0, as in the source city, to 1, fully shifted.",
    ),
)
_INTEGERS = (
    ("seed", _DEFAULT.seed, "Random seed of both cities."),
    ("height", _DEFAULT.height, "Image height in pixels."),
    ("width", _DEFAULT.width, "Image width in pixels."),
    ("num_train", builder.NUM_TRAIN, "Training images per city."),
    ("num_eval", builder.NUM_EVAL, "Validation images and test images per city."),
)


def _define_flags() -> flags.FlagValues:
    values = command.define_flags("Number of rendering processes.")
    flags.DEFINE_string(
        "preview", None, "Only write a sheet of images to this PNG file.", flag_values=values
    )
    flags.DEFINE_string(
        "folders", None, "Also write PNG files into this folder, in the layout of your own data.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "replace", False, "Write datasets anew that are there; the old one stays until the new one "
        "is whole.",
        flag_values=values,
    )  # fmt: skip
    for name, default, text in _FLOATS:
        flags.DEFINE_float(name, default, text, flag_values=values)
    for name, default, text in _INTEGERS:
        flags.DEFINE_integer(name, default, text, flag_values=values)
    return values


def main(argv: Sequence[str]) -> int:
    """Runs the command and reports errors.

    Returns:
        The exit status: 0; 2 after wrong input; 130 when interrupted.
    """
    return command.guard(_run, argv)


def _run(argv: Sequence[str]) -> int:
    values = _define_flags()
    command.parse(values, argv)
    if values.help:
        print(_USAGE + values.get_help())
        return 0
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
    data_dir = pathlib.Path(values.data_dir)
    _prepare(data_dir, configs, values.workers, replace=values.replace)
    if values.folders is not None:
        folders.write_folders(pathlib.Path(values.folders), data_dir, configs)
        print(f"PNG files are in {values.folders}: {', '.join(folders.NAMES)}.")
    return 0


def _prepare(
    data_dir: pathlib.Path,
    configs: Sequence[builder.ToyCitiesConfig],
    workers: int,
    *,
    replace: bool,
) -> None:
    start = time.monotonic()
    datasets.check_writable(data_dir)
    pending = [config for config in configs if replace or not prepare.is_complete(data_dir, config)]
    total = sum(sum(config.counts().values()) for config in pending)
    with command.progress("rendering toy_cities", total) as advance:
        prepare.prepare(data_dir, pending, workers, advance, replace=replace)
    names = ", ".join(config.name for config in configs)
    skipped = (
        f", {len(configs) - len(pending)} already there" if len(pending) < len(configs) else ""
    )
    seconds = time.monotonic() - start
    print(f"toy_cities is in {data_dir / 'toy_cities'}: {names} ({seconds:.1f} s{skipped}).")
