"""Writes the exported program, its description and an example.

Synopsis:

  path = export_segmenter(load_segmenter("runs/alp"), "exported", label_size=(1080, 1920))
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.command import versions
from alp_jax.errors import UserError
from alp_jax.evaluation.segmenter import TrainedSegmenter
from alp_jax.objective import maps, patches
from alp_jax.workdir import files, outputs

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, DESCRIPTION, EXAMPLE = "segmenter.jax", "segmenter.json", "predict.py"

_EXAMPLE = '''\
"""python predict.py IMAGE LABELS.png: needs jax, flatbuffers, numpy and Pillow."""

import pathlib
import sys

import jax.export
import numpy as np
from PIL import Image, ImageOps

if len(sys.argv) != 3 or not pathlib.Path(sys.argv[1]).is_file():
    sys.exit("Give an image and the PNG file to write: python predict.py IMAGE LABELS.png")
program = pathlib.Path(__file__).with_name("{program}")
segmenter = jax.export.deserialize(program.read_bytes())
image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
image = image.resize(({width}, {height}), Image.{resampling})
label_ids, entropy = segmenter.call(np.asarray(image)[None])
if not np.isfinite(entropy).all():
    sys.exit("The logits of this image are not finite: the classes mean nothing.")
Image.fromarray(np.asarray(label_ids[0])).save(sys.argv[2])
'''

_OUTPUTS = outputs.Kind(
    "an exported segmenter", is_earlier=lambda folder: (folder / PROGRAM).is_file()
)


def export_segmenter(
    segmenter: TrainedSegmenter,
    output: pathlib.Path | str,
    *,
    label_size: patches.Size | None = None,
) -> pathlib.Path:
    """Writes a segmenter as a standalone program, with a description and an example.

    Args:
      segmenter: segmenter to export.
      output: folder, new or empty or of an earlier export, which is replaced.
      label_size: (height, width) of the label maps, pixels; None: the network's size.
    Returns:
      the path of the program.
    Raises:
      UserError: if the folder holds other files or cannot be written to.
    """
    folder = pathlib.Path(output).expanduser()
    outputs.claim(folder, _OUTPUTS)
    size = label_size or segmenter.size
    program = export_program(segmenter, size).serialize()
    example = _EXAMPLE.format(
        program=PROGRAM,
        height=segmenter.size[0],
        width=segmenter.size[1],
        resampling=segmenter.settings.data.image_resize.upper(),
    )
    try:
        files.write_bytes(folder / PROGRAM, bytes(program))
        files.write_json(folder / DESCRIPTION, _describe(segmenter, size))
        files.write_text(folder / EXAMPLE, example)
    except OSError as error:
        raise UserError(
            f"Cannot write to {folder} ({error.strerror or error}): give an --output that you may "
            "write to."
        ) from error
    return folder / PROGRAM


def export_program(segmenter: TrainedSegmenter, label_size: patches.Size) -> jax.export.Exported:
    """Exports images [B, *size, 3] -> (label_ids, entropy) [B, *label_size], for any B."""
    to_ids = segmenter.label_set.to_label_ids

    def label(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        ensemble = segmenter.ensemble
        logits = ensemble.predictor.predict(ensemble.variables, images, label_size)
        return jnp.asarray(to_ids)[jnp.argmax(logits, axis=-1)], maps.entropy(logits)

    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *segmenter.size, 3), np.uint8)
    return jax.export.export(jax.jit(label), platforms=PLATFORMS)(images)


def _describe(segmenter: TrainedSegmenter, label_size: patches.Size) -> dict[str, object]:
    return {
        "image_size": list(segmenter.size),
        "image_resize": segmenter.settings.data.image_resize,
        "label_size": list(label_size),
        "platforms": list(PLATFORMS),
        "classes": [
            {"name": c.name, "label_id": c.label_id, "colour": list(c.colour)}
            for c in segmenter.label_set.classes
        ],
        "step": segmenter.step,
        "versions": versions.describe(),
    }
