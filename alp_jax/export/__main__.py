"""Writes a trained segmenter as one file that runs without this package.

python -m alp_jax.export --workdir=runs/alp --output=exported
python -m alp_jax.export --workdir=runs/alp --output=exported --label_size=1080,1920

The folder then holds `segmenter.jax` (jax.export: StableHLO with the weights inside, for CPU, CUDA
and TPU), `segmenter.json` (classes, ids, colours and sizes) and `predict.py`, an example that needs
only jax, flatbuffers, numpy and Pillow.

The function takes images [B, H, W, 3] uint8 RGB, for any B, at the network's size H, W
(`config.data.target_size`), and returns (label_ids [B, H', W'] uint8, entropy [B, H', W'] float32
in [0, 1]); H', W' is `--label_size`.
"""

import logging
import pathlib
from collections.abc import Sequence

from absl import flags

from alp_jax.command import cli
from alp_jax.errors import UserError

logger = logging.getLogger(__name__)

_MOST_PIXELS = 16_384

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "latest", "latest, best (chosen with target labels), or the number of a step."
)
_LABEL_SIZE = flags.DEFINE_list(
    "label_size",
    None,
    "HEIGHT,WIDTH of the label maps in pixels, such as the size of the camera's images. Default: "
    "the network's size.",
)


def main() -> None:
    """Exports the run that the flags name."""
    if not _WORKDIR.value or not _OUTPUT.value:
        raise UserError(
            "Exporting needs --workdir, a run, and --output, a folder: for example "
            "--workdir=runs/alp --output=exported."
        )
    label_size = None if _LABEL_SIZE.value is None else _parse_size(_LABEL_SIZE.value)
    # Imported here so that --help and wrong flags answer at once.
    from alp_jax.evaluation.segmenter import load_segmenter
    from alp_jax.export import program

    segmenter = load_segmenter(_WORKDIR.value, _CHECKPOINT.value)
    output = pathlib.Path(_OUTPUT.value).expanduser()
    path = program.export_segmenter(segmenter, output, label_size=label_size)
    logger.info(
        "Exported step %d of %s for %s: %s, %.1f MB. How to use it: %s.",
        segmenter.step,
        _WORKDIR.value,
        ", ".join(program.PLATFORMS),
        path,
        path.stat().st_size / 1e6,
        path.with_name(program.EXAMPLE),
    )


def _parse_size(given: Sequence[str]) -> tuple[int, int]:
    if len(given) == 2 and all(part.strip().isdigit() for part in given):
        height, width = map(int, given)
        if min(height, width) >= 1 and max(height, width) <= _MOST_PIXELS:
            return height, width
    raise UserError(
        f"--label_size is {','.join(given)!r}: expected HEIGHT,WIDTH in pixels, such as 1080,1920."
    )


if __name__ == "__main__":
    cli.run(main)
