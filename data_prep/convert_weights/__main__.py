"""Converts PyTorch weights to a workdir that alp_jax starts from or evaluates, and back.

python -m data_prep.convert_weights --input=FILE.pth --output=pretrained/NAME
python -m data_prep.convert_weights --input=FILE.safetensors --output=pretrained/NAME
python -m data_prep.convert_weights --input=efficientnet_lite0 --output=pretrained/NAME
python -m data_prep.convert_weights --input=MOCO.pth --prefix=encoder_q. --output=pretrained/NAME
python -m data_prep.convert_weights --input=runs/alp --output=alp.pth --checkpoint=best
python -m data_prep.convert_weights --input=FILE.pth --output=pretrained/NAME \\
    --discriminators=main:D_main.pth,aux:D_aux.pth
python -m data_prep.convert_weights --input=runs/alp --output=d.pth --discriminator=main
"""

import pathlib

from absl import flags

from alp_jax.command import cli
from alp_jax.errors import UserError
from data_prep.convert_weights import packages
from data_prep.convert_weights.layouts import AUTO, LAYOUTS

_INPUT = flags.DEFINE_string(
    "input",
    None,
    "A .pth or .safetensors file; a workdir: the folder of a run or of converted weights; or the "
    f"name of weights that a package installs: {', '.join(packages.PACKAGES)}.",
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Workdir, or .pth or .safetensors file, to write; it must not exist."
)
_LAYOUT = flags.DEFINE_enum(
    "layout",
    AUTO,
    [AUTO, *LAYOUTS],
    "Layout of the file, the names and meaning of its tensors: "
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
    "Classes of a file, in order: a label set, such as cityscapes_16, or your own file, such "
    "as my_classes.yaml. Needed unless there are 19, 16 or 13 classes, which are Cityscapes'.",
)
_ENTRY = flags.DEFINE_string(
    "entry",
    None,
    "Entry of a .pth file that holds the state dict, where there are several: teacher, or "
    "model/student for an entry of an entry.",
)
_PREFIX = flags.DEFINE_string(
    "prefix",
    None,
    "Prefix of the keys of the network, where a file holds several networks or more than one: "
    "encoder_q. for MoCo's. What has another prefix is left out, and counted.",
)
_IGNORE = flags.DEFINE_string(
    "ignore",
    None,
    r"Regular expression of keys, as a whole, to leave out: 'fc\..*|queue.*'. They are counted, "
    "and kept beside the checkpoint for the way back.",
)
_DISCRIMINATORS = flags.DEFINE_list(
    "discriminators",
    [],
    "HEAD:FILE,...: files of the discriminators of a network's heads, beside the file of the "
    "network: main:D2.pth,aux:D1.pth for AdaptSegNet's. A run takes them with "
    "--config.init_terms=same.",
)
_DISCRIMINATOR = flags.DEFINE_string(
    "discriminator",
    None,
    "Writes, of a workdir, a discriminator in place of the network: main, aux, or the name of the "
    "term that owns it without adversarial_.",
)
# Flags about a file of weights, which a workdir needs none of.
_OF_FILES = (_LABEL_SET, _ENTRY, _PREFIX, _IGNORE)


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
        source = packages.find(_INPUT.value) or source
    if not source.exists():
        raise UserError(
            f"The input {source} does not exist: expected a file of weights, the workdir of a run, "
            f"or one of {', '.join(packages.PACKAGES)}; give another --input."
        )
    # Imported here so that --help and wrong flags answer at once.
    from data_prep.convert_weights import exporting, importing

    if source.is_dir():
        for flag in _OF_FILES:
            if flag.value is not None:
                raise UserError(
                    f"--{flag.name} is {flag.value}, but the input {source} is a workdir, which "
                    "knows its classes and tensors: leave it out."
                )
        if _DISCRIMINATORS.value:
            raise UserError(
                f"--discriminators is {','.join(_DISCRIMINATORS.value)}, but the input {source} is "
                "a workdir: give --discriminator=main to write one of it, or leave it out."
            )
        if _DISCRIMINATOR.value is None:
            print(exporting.export_weights(source, output, _LAYOUT.value, _CHECKPOINT.value))
        else:
            print(
                exporting.export_discriminator(
                    source, output, _LAYOUT.value, _CHECKPOINT.value, key=_DISCRIMINATOR.value
                )
            )
    else:
        if _DISCRIMINATOR.value is not None:
            raise UserError(
                f"--discriminator is {_DISCRIMINATOR.value}, but the input {source} is a file: "
                "give --discriminators=HEAD:FILE to convert discriminators with it."
            )
        if flags.FLAGS["checkpoint"].present:
            raise UserError(
                f"--checkpoint is {_CHECKPOINT.value}, but the input {source} is a file, which has "
                "no checkpoints: leave it out."
            )
        choices = importing.Choices(
            _LAYOUT.value,
            _LABEL_SET.value,
            _ENTRY.value,
            _PREFIX.value,
            _IGNORE.value,
            _parse_discriminators(_DISCRIMINATORS.value),
        )
        print(importing.import_weights(source, output, choices))


def _parse_discriminators(given: list[str]) -> dict[str, pathlib.Path]:
    """Reads HEAD:FILE,...; the files must exist."""
    found: dict[str, pathlib.Path] = {}
    for item in given:
        head, colon, name = item.partition(":")
        path = pathlib.Path(name).expanduser()
        if not (head and colon and name) or head in found:
            raise UserError(
                f"--discriminators is {','.join(given)}: expected HEAD:FILE for different heads, "
                "such as main:D2.pth,aux:D1.pth."
            )
        if not path.is_file():
            raise UserError(f"--discriminators has {item}: there is no file {path}.")
        found[head] = path
    return found


if __name__ == "__main__":
    cli.run(main)
