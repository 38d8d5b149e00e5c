"""Finds files of weights that packages install.

Synopsis:

  path = find("efficientnet_lite0")      # None: no network of that name

The modules of backbones declare the names, see `alp_jax.models.published.Layout.packages`.
"""

import importlib.metadata
import pathlib

from alp_jax.errors import UserError
from data_prep.convert_weights.layouts import LAYOUTS

# Name of a network -> package that installs its file of weights.
PACKAGES = {
    name: package for layout in LAYOUTS.values() for name, package in layout.packages.items()
}
_SUFFIXES = (".pth", ".safetensors")


def find(name: str) -> pathlib.Path | None:
    """Finds the file of a network by its name; returns None for any other name.

    Raises:
      UserError: if the package is not installed, or has not exactly one file of weights.
    """
    package = PACKAGES.get(name)
    if package is None:
        return None
    try:
        listed = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"The weights {name} come with the package {package}, which is not installed: "
            f"pip install {package}, or give the path of a file as --input."
        ) from error
    paths = [pathlib.Path(str(file.locate())) for file in listed if file.suffix in _SUFFIXES]
    found = [path for path in paths if path.is_file()]
    if len(found) != 1:
        raise UserError(
            f"The package {package} holds {len(found)} files of weights: expected one; install it "
            f"again with pip install --force-reinstall {package}, or give the path of a file as "
            "--input."
        )
    return found[0]
