"""Converts PyTorch weights to a workdir that alp_jax starts from or evaluates, and back.

python -m data_prep.convert_weights --input=FILE.pth --output=pretrained/NAME
python -m data_prep.convert_weights --input=runs/alp --output=alp.pth --checkpoint=best
"""

import pathlib

from absl import flags

from alp_jax.command import cli
from alp_jax.errors import UserError
from data_prep.convert_weights.layouts import AUTO, LAYOUTS

_INPUT = flags.DEFINE_string(
    "input", None, "A .pth file, or a workdir: the folder of a run or of converted weights."
)
_OUTPUT = flags.DEFINE_string("output", None, "Workdir or .pth file to write; it must not exist.")
_LAYOUT = flags.DEFINE_enum(
    "layout",
    AUTO,
    [AUTO, *LAYOUTS],
    "Layout of the .pth file, the names and meaning of its tensors: "
    + "; ".join(f"{name}, {layout.description}" for name, layout in LAYOUTS.items())
    + ". auto recognises the layout of an input; an output gets the layout that the weights came "
    "in, or else AdvEnt's.",
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "latest", "Checkpoint of a workdir: latest, best or the number of a step."
)
_LABEL_SET = flags.DEFINE_string(
    "label_set",
    None,
    "Classes of a .pth file, in order: a label set, such as cityscapes_16, or your own file, such "
    "as my_classes.yaml. Needed unless there are 19, 16 or 13 classes, which are Cityscapes'.",
)


def main() -> None:
    """Converts a file to a workdir, or a workdir to a file, depending on the input."""
    if _INPUT.value is None or _OUTPUT.value is None:
        raise UserError(
            "Give --input and --output: --input=FILE.pth --output=pretrained/NAME, or "
            "--input=WORKDIR --output=FILE.pth."
        )
    source, output = (pathlib.Path(flag.value).expanduser() for flag in (_INPUT, _OUTPUT))
    if output.exists():
        raise UserError(
            f"The output {output} exists already, and nothing is overwritten: give another "
            "--output, or remove it."
        )
    if not source.exists():
        raise UserError(
            f"The input {source} does not exist: expected a .pth file or the workdir of a run; "
            "give another --input."
        )
    # Imported here so that --help and wrong flags answer at once.
    from data_prep.convert_weights import exporting, importing

    if source.is_dir():
        if _LABEL_SET.value:
            raise UserError(
                f"--label_set is {_LABEL_SET.value}, but the workdir {source} knows its classes: "
                "leave it out."
            )
        print(exporting.export_weights(source, output, _LAYOUT.value, _CHECKPOINT.value))
    else:
        print(importing.import_weights(source, output, _LAYOUT.value, _LABEL_SET.value))


if __name__ == "__main__":
    cli.run(main)
